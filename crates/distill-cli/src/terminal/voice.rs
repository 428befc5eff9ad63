//! The one writer to stderr, so that nothing tears the progress bars.

use super::bars::Bars;
use super::json_lines::JsonLines;
use super::plain_lines::PlainLines;
use super::quiet::Quiet;
use super::table::fold;
use super::{Paint, width};
use crate::failure::Failure;
use distill_train::Observer;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::json;
use std::io::{IsTerminal, Write};

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Bars that move, on a terminal.
    Bars,
    /// A line a logged step, for files and pipes.
    Lines,
    /// An object a line, for programs.
    Json,
}

impl Manner {
    /// Bars where stderr is a terminal that can move its cursor, else lines.
    pub fn of_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb { Self::Bars } else { Self::Lines }
    }
}

/// Speaks on stderr; clones speak on the same one.
#[derive(Clone, Debug)]
pub struct Voice {
    manner: Manner,
    quiet: bool,
    paint: Paint,
    bars: MultiProgress,
}

impl Voice {
    /// A voice of this manner; a quiet one tells warnings and errors only.
    pub fn new(manner: Manner, quiet: bool) -> Self {
        Self { manner, quiet, paint: Paint::stderr(), bars: MultiProgress::new() }
    }

    /// How this voice speaks.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// Whether this voice tells warnings and errors only.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Colours for this voice.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Whoever draws the events of a run.
    pub fn observer(&self) -> Box<dyn Observer> {
        if self.quiet {
            return Box::new(Quiet::new(self.clone()));
        }
        match self.manner {
            Manner::Bars => Box::new(Bars::new(self.clone(), self.bars.clone())),
            Manner::Lines => Box::new(PlainLines::new(self.clone())),
            Manner::Json => Box::new(JsonLines::new(self.clone())),
        }
    }

    /// Writes a text of one or more lines, above the bars where there are any.
    pub fn line(&self, text: &str) {
        let write = || {
            // Nobody is left to tell that stderr is gone.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        if self.manner == Manner::Bars { self.bars.suspend(write) } else { write() }
    }

    /// Something worth knowing.
    pub fn note(&self, message: &str) {
        if self.quiet {
            return;
        }
        match self.manner {
            Manner::Json => self.line(&json!({"event": "note", "message": message}).to_string()),
            Manner::Bars | Manner::Lines => self.told("note:", message, Paint::blue),
        }
    }

    /// Something that is probably wrong.
    pub fn warning(&self, message: &str) {
        match self.manner {
            Manner::Json => self.line(&json!({"event": "warning", "message": message}).to_string()),
            Manner::Bars | Manner::Lines => self.told("warning:", message, Paint::yellow),
        }
    }

    fn told(&self, heading: &str, message: &str, paint: fn(Paint, String) -> String) {
        let line = format!("{} {message}", paint(self.paint, heading.to_owned()));
        self.line(&fold(&line, self.width()));
    }

    /// Columns to keep to; a file has room for any line.
    fn width(&self) -> usize {
        if self.manner == Manner::Bars { width() } else { usize::MAX }
    }

    /// Why the command ended.
    pub fn failure(&self, failure: &Failure) {
        if self.manner == Manner::Json {
            for object in failure.to_json() {
                self.line(&object.to_string());
            }
            return;
        }
        let text = failure.render(self.paint, self.width());
        if !text.is_empty() {
            self.line(text.trim_end_matches('\n'));
        }
    }

    /// Leaves the bars as they are and draws none any more.
    ///
    /// A terminal echoes `^C` behind the last bar, which breaks into a line of its own: bars that are drawn on would
    /// leave torn ones above them.
    pub fn freeze(&self) {
        if self.manner == Manner::Bars {
            self.bars.set_draw_target(ProgressDrawTarget::hidden());
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }

    /// Removes the bars, so that the prompt comes back on a clean line.
    pub fn close(&self) {
        if self.manner == Manner::Bars {
            let _ = self.bars.clear();
        }
    }
}
