//! A tokenizer and settings for the tests of this module.

use super::{AugmentSettings, Replacements};
use distill_data::tokenizer::{Tokenizer, TrainConfig};

/// Knows the words of a few sentences as a whole; at most 120 tokens.
pub(super) fn tokenizer() -> Tokenizer {
    let texts = [
        "the printer of the bank broke again and again, zxy",
        "the bank bought a new printer in 2004 and the printer broke",
        "again the market fell, and the bank sold the broken printer",
    ];
    let config = TrainConfig { vocab_size: 120, ..TrainConfig::default() };
    Tokenizer::train(texts.repeat(3), &config).expect("a tokenizer")
}

pub(super) fn settings() -> AugmentSettings {
    AugmentSettings {
        copies: 4,
        probability: 0.4,
        candidates: 5,
        replacements: Replacements::Embeddings,
        seed: 1,
        batch_size: 8,
        max_length: 40,
    }
}
