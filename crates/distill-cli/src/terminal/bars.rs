//! Progress on a terminal: a bar for training, a line for whatever else is going on.

use super::sentences::{skipped, started, stopped_early, trimmed, validated};
use super::smoothing::Smoothed;
use super::table::shorten;
use super::units::{clock, learning_rate, short_count};
use super::{Voice, width};
use distill_train::{Event, Observer, StepRecord};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Columns that a line keeps free.
const MARGIN: usize = 6;
const TICK: Duration = Duration::from_millis(100);

// The last line of each stays short of the right edge: the `^C` that a terminal echoes must not break it.
const STAGE: &str = "{spinner} {msg}";
const COUNTED: &str = "{spinner} {msg}  {bar:24}  {human_pos} of {human_len}";
const DOWNLOADING: &str =
    "{spinner} {msg}  {bar:24}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}";
const COUNTING: &str = "{spinner} {msg}  {human_pos}";
const TRAINING: &str = "{spinner} step {pos}/{len}  {wide_bar}  {percent}%{prefix}\n  {msg}";

/// Draws bars.
pub struct Bars {
    voice: Voice,
    bars: MultiProgress,
    training: Option<Training>,
    /// What else goes on, and its line.
    stage: Option<(String, ProgressBar)>,
}

struct Training {
    bar: ProgressBar,
    smoothed: Smoothed,
    total_steps: u64,
    epochs: f64,
}

impl Bars {
    /// Draws on `bars` and writes lines above them through `voice`.
    pub fn new(voice: Voice, bars: MultiProgress) -> Self {
        bars.set_draw_target(ProgressDrawTarget::stderr());
        Self { voice, bars, training: None, stage: None }
    }

    fn stage(&mut self, message: &str) {
        self.end_stage();
        let bar = self.bars.add(ProgressBar::new_spinner().with_style(style(STAGE)));
        bar.set_message(shorten(message, width().saturating_sub(MARGIN)));
        bar.enable_steady_tick(TICK);
        self.stage = Some((message.to_owned(), bar));
    }

    fn progress(&mut self, what: &str, done: u64, total: Option<u64>) {
        if self.stage.as_ref().is_none_or(|(current, _)| current != what) {
            self.end_stage();
            let (bar, template) = match total {
                Some(total) if what.starts_with("downloading ") => (ProgressBar::new(total), DOWNLOADING),
                Some(total) => (ProgressBar::new(total), COUNTED),
                None => (ProgressBar::new_spinner(), COUNTING),
            };
            let bar = self.bars.add(bar.with_style(style(template)));
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            self.stage = Some((what.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.stage {
            bar.set_position(done);
        }
        if total == Some(done) {
            self.end_stage();
        }
    }

    fn end_stage(&mut self) {
        if let Some((_, bar)) = self.stage.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn start(&mut self, total_steps: u64, resumed_at: u64, epochs: f64) {
        self.end_stage();
        self.voice.line(&started(total_steps, resumed_at, epochs));
        let bar = self.bars.add(ProgressBar::new(total_steps).with_style(style(TRAINING)));
        bar.set_position(resumed_at);
        bar.enable_steady_tick(TICK);
        self.training = Some(Training { bar, smoothed: Smoothed::default(), total_steps, epochs });
    }

    fn place(&self, step: u64) -> String {
        match &self.training {
            Some(training) => format!("step {step}/{}", training.total_steps),
            None => format!("step {step}"),
        }
    }
}

impl Training {
    fn step(&mut self, record: &StepRecord) {
        self.smoothed.add(record);
        let left = self.total_steps.saturating_sub(record.step);
        self.bar.set_prefix(format!("  {} left", clock(self.smoothed.seconds_for(left))));
        let numbers = format!(
            "epoch {:.2}/{}  loss {:.4}  lr {}  {} examples/s  {} tokens/s",
            record.epoch,
            trimmed(self.epochs),
            self.smoothed.loss(),
            learning_rate(record.learning_rate),
            short_count(self.smoothed.examples_per_second()),
            short_count(self.smoothed.tokens_per_second()),
        );
        self.bar.set_message(shorten(&numbers, width().saturating_sub(MARGIN)));
        self.bar.set_position(record.step);
    }
}

impl Observer for Bars {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { message } => self.stage(message),
            Event::Progress { what, done, total } => self.progress(what, *done, *total),
            Event::Note { message } => self.voice.note(message),
            Event::Warning { message } => self.voice.warning(message),
            Event::TrainingStarted { total_steps, resumed_at, epochs } => {
                self.start(*total_steps, *resumed_at, *epochs);
            }
            Event::Step(record) => {
                self.end_stage();
                if let Some(training) = &mut self.training {
                    training.step(record);
                }
            }
            Event::Logged(_) | Event::CheckpointSaved { .. } => {}
            Event::Validated { step, report, metric, value, best, .. } => {
                self.end_stage();
                let place = self.place(*step);
                self.voice.line(&validated(self.voice.paint(), &place, report, (metric, *value), *best));
            }
            Event::EarlyStopped { step, patience } => self.voice.note(&stopped_early(*step, *patience)),
            Event::StepSkipped { step, loss } => self.voice.warning(&skipped(*step, *loss)),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.end_stage();
        if let Some(training) = self.training.take() {
            training.bar.finish_and_clear();
        }
    }
}

/// A style of this template, with characters that the terminal's encoding has.
fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file, and a test parses each; an unparsable one would only cost its looks.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    if speaks_unicode() {
        style.progress_chars("━╸─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
    } else {
        style.progress_chars("=> ").tick_chars("|/-\\ ")
    }
}

/// Whether the locale says UTF-8, in the order in which the C library asks.
fn speaks_unicode() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .is_some_and(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_parsed() {
        for template in [STAGE, COUNTED, DOWNLOADING, COUNTING, TRAINING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
