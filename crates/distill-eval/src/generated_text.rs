//! A generated text and what it is held against.

use serde::{Deserialize, Serialize};

/// What a model wrote, and what it could have been expected to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedText {
    /// The generated text.
    pub prediction: String,
    /// One or more texts, each of which would have been right.
    pub references: Vec<String>,
}

impl GeneratedText {
    /// A text that has a single reference.
    pub fn new(prediction: impl Into<String>, reference: impl Into<String>) -> Self {
        Self { prediction: prediction.into(), references: vec![reference.into()] }
    }
}
