//! Progress for files and pipes: a line for each thing that a reader would want to find there later.

use super::Voice;
use super::sentences::{losses, skipped, started, stopped_early, validated};
use super::units::{bytes, count, learning_rate, short_count};
use distill_train::{Event, Observer};
use std::time::{Duration, Instant};

/// How often a counted piece of preparation is heard of while it goes on.
const EVERY: Duration = Duration::from_secs(10);

/// Writes plain lines.
#[derive(Debug)]
pub struct PlainLines {
    voice: Voice,
    total_steps: u64,
    /// The piece of preparation that was last heard of, and when.
    heard: Option<(String, Instant)>,
}

impl PlainLines {
    /// Writes through `voice`.
    pub fn new(voice: Voice) -> Self {
        Self { voice, total_steps: 0, heard: None }
    }

    fn progress(&mut self, what: &str, done: u64, total: Option<u64>) {
        let since = match &self.heard {
            Some((heard, since)) if heard == what => *since,
            _ => {
                let now = Instant::now();
                self.heard = Some((what.to_owned(), now));
                now
            }
        };
        let finished = total == Some(done);
        if !finished && since.elapsed() < EVERY {
            return;
        }
        self.heard = Some((what.to_owned(), Instant::now()));
        let bytes_are_counted = what.starts_with("downloading ");
        let count = |value| if bytes_are_counted { bytes(value) } else { count(value) };
        match total {
            Some(total) => self.voice.line(&format!("{what}: {} of {}", count(done), count(total))),
            None => self.voice.line(&format!("{what}: {}", count(done))),
        }
    }

    fn place(&self, step: u64, epoch: f64) -> String {
        format!("step {step}/{}  epoch {epoch:.2}", self.total_steps)
    }
}

impl Observer for PlainLines {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { message } => self.voice.line(message),
            Event::Progress { what, done, total } => self.progress(what, *done, *total),
            Event::Note { message } => self.voice.note(message),
            Event::Warning { message } => self.voice.warning(message),
            Event::TrainingStarted { total_steps, resumed_at, epochs } => {
                self.total_steps = *total_steps;
                self.voice.line(&started(*total_steps, *resumed_at, *epochs));
            }
            Event::Step(_) => {}
            Event::Logged(record) => self.voice.line(&format!(
                "{}  loss {:.4}{}  lr {}  {} examples/s  {} tokens/s",
                self.place(record.step, record.epoch),
                record.loss,
                losses(&record.losses),
                learning_rate(record.learning_rate),
                short_count(record.examples_per_second),
                short_count(record.tokens_per_second),
            )),
            Event::Validated { step, epoch, report, metric, value, best, .. } => {
                let place = self.place(*step, *epoch);
                self.voice.line(&validated(self.voice.paint(), &place, report, (metric, *value), *best));
            }
            Event::CheckpointSaved { path, .. } => self.voice.line(&format!("saved `{}`", path.display())),
            Event::EarlyStopped { step, patience } => self.voice.note(&stopped_early(*step, *patience)),
            Event::StepSkipped { step, loss } => self.voice.warning(&skipped(*step, *loss)),
        }
    }
}
