//! `min_new_tokens`: texts do not end too soon.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;

/// Forbids the tokens that end a text until it has some tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinNewTokens {
    /// Tokens after the prompt from which on a text may end.
    pub min_new_tokens: usize,
    /// The tokens that end a text.
    pub eos_token_id: Vec<u32>,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let min_new_tokens = config.min_new_tokens;
    let eos_token_id = config.eos_token_id.clone();
    (min_new_tokens > 0 && !eos_token_id.is_empty())
        .then(|| Box::new(MinNewTokens { min_new_tokens, eos_token_id }) as _)
}

impl LogitsProcessor for MinNewTokens {
    fn process(&self, history: History<'_>, scores: &mut [f32]) {
        if history.tokens.len() - history.prompt_length < self.min_new_tokens {
            for &token in &self.eos_token_id {
                if let Some(score) = scores.get_mut(token as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_may_end_after_some_tokens() {
        let processor = MinNewTokens { min_new_tokens: 2, eos_token_id: vec![0, 2, 99] };
        let mut scores = [1.0, 2.0, 3.0];
        processor.process(History { tokens: &[5, 5, 5, 7, 7], prompt_length: 3 }, &mut scores);
        assert_eq!(scores, [1.0, 2.0, 3.0]);
        processor.process(History { tokens: &[5, 5, 5, 7], prompt_length: 3 }, &mut scores);
        assert_eq!(scores, [f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY]);
    }
}
