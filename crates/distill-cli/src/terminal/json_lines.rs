//! Every event as it is, for programs.

use super::Voice;
use distill_train::{Event, Observer};

/// Writes one JSON object a line.
#[derive(Debug)]
pub struct JsonLines {
    voice: Voice,
}

impl JsonLines {
    /// Writes through `voice`.
    pub fn new(voice: Voice) -> Self {
        Self { voice }
    }
}

impl Observer for JsonLines {
    fn event(&mut self, event: &Event) {
        match serde_json::to_string(event) {
            Ok(line) => self.voice.line(&line),
            Err(error) => self.voice.warning(&format!("an event cannot be written as JSON: {error}")),
        }
    }
}
