//! Only what the user must not miss.

use super::Voice;
use super::sentences::skipped;
use distill_train::{Event, Observer};

/// Tells warnings, nothing else.
#[derive(Debug)]
pub struct Quiet {
    voice: Voice,
}

impl Quiet {
    /// Warns through `voice`.
    pub fn new(voice: Voice) -> Self {
        Self { voice }
    }
}

impl Observer for Quiet {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Warning { message } => self.voice.warning(message),
            Event::StepSkipped { step, loss } => self.voice.warning(&skipped(*step, *loss)),
            _ => {}
        }
    }
}
