//! Changes of the scores of the next token: one file each, one line each in [`PROCESSORS`].
//!
//! They work in place on one row: on logits where tokens are drawn or the most probable one is taken, on
//! log-probabilities in a beam search. A forbidden token has the score −∞.

mod min_new_tokens;
mod min_p;
mod no_repeat_ngram;
mod repetition_penalty;
mod temperature;
mod top_k;
mod top_p;

pub use min_new_tokens::MinNewTokens;
pub use min_p::MinP;
pub use no_repeat_ngram::NoRepeatNgram;
pub use repetition_penalty::RepetitionPenalty;
pub use temperature::Temperature;
pub use top_k::TopK;
pub use top_p::TopP;

use crate::GenerationConfig;
use std::fmt::Debug;

/// What a row holds before its next token.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Its tokens, those of the prompt first.
    pub tokens: &'a [u32],
    /// How many of them are the prompt's.
    pub prompt_length: usize,
}

/// Changes the scores of the next token of a row.
pub trait LogitsProcessor: Debug {
    /// Changes `scores`, `[vocab]`, in place.
    fn process(&self, history: History<'_>, scores: &mut [f32]);
}

/// What the settings ask of a processor; `None` if it is off.
pub type Build = fn(&GenerationConfig) -> Option<Box<dyn LogitsProcessor>>;

/// All processors, by the setting that turns them on, in the order in which they work: Hugging Face's.
pub const PROCESSORS: [(&str, Build); 7] = [
    ("repetition_penalty", repetition_penalty::build),
    ("no_repeat_ngram_size", no_repeat_ngram::build),
    ("min_new_tokens", min_new_tokens::build),
    ("temperature", temperature::build),
    ("top_k", top_k::build),
    ("top_p", top_p::build),
    ("min_p", min_p::build),
];

/// The processors that the settings turn on.
#[derive(Debug)]
pub struct LogitsProcessors(Vec<Box<dyn LogitsProcessor>>);

impl LogitsProcessors {
    /// Takes what `config` asks for.
    pub fn new(config: &GenerationConfig) -> Self {
        Self(PROCESSORS.iter().filter_map(|(_, build)| build(config)).collect())
    }
}

impl LogitsProcessor for LogitsProcessors {
    fn process(&self, history: History<'_>, scores: &mut [f32]) {
        for processor in &self.0 {
            processor.process(history, scores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_change_nothing() {
        assert!(LogitsProcessors::new(&GenerationConfig::default()).0.is_empty());
    }

    #[test]
    fn what_shapes_draws_is_off_without_draws() {
        let greedy = GenerationConfig {
            temperature: 0.5,
            top_k: 3,
            top_p: 0.5,
            min_p: Some(0.1),
            repetition_penalty: 1.5,
            ..GenerationConfig::default()
        };
        assert_eq!(LogitsProcessors::new(&greedy).0.len(), 1);
        let drawn = GenerationConfig { do_sample: true, ..greedy };
        assert_eq!(LogitsProcessors::new(&drawn).0.len(), 5);
    }

    #[test]
    fn temperature_comes_before_what_cuts() {
        // At temperature 1 the first token has 0.88 of the probability; at 4 only 0.44, so that 0.6 needs two.
        let config =
            GenerationConfig { do_sample: true, temperature: 4.0, top_p: 0.6, ..GenerationConfig::default() };
        let mut scores = [3.0, 1.0, 0.0, -1.0];
        let history = History { tokens: &[0], prompt_length: 1 };
        LogitsProcessors::new(&config).process(history, &mut scores);
        assert_eq!(scores, [0.75, 0.25, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
