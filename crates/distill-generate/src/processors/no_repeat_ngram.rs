//! `no_repeat_ngram_size`: nothing is said twice in the same words.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;

/// Forbids every token that would complete a sequence of `size` tokens that occurred, prompt included;
/// Paulus et al. 2017, §2.5 (arXiv:1705.04304).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRepeatNgram {
    /// Tokens of a sequence, at least 1.
    pub size: usize,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let size = config.no_repeat_ngram_size;
    (size > 0).then(|| Box::new(NoRepeatNgram { size }) as _)
}

impl LogitsProcessor for NoRepeatNgram {
    fn process(&self, history: History<'_>, scores: &mut [f32]) {
        let Some(begin) = (history.tokens.len() + 1).checked_sub(self.size) else { return };
        let Some(begun) = history.tokens.get(begin..) else { return };
        for ngram in history.tokens.windows(self.size.max(1)) {
            if let Some((&last, first)) = ngram.split_last()
                && first == begun
                && let Some(score) = scores.get_mut(last as usize)
            {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(size: usize, tokens: &[u32]) -> Vec<usize> {
        let mut scores = [0.0; 8];
        NoRepeatNgram { size }.process(History { tokens, prompt_length: 1 }, &mut scores);
        (0..8).filter(|&token| scores[token] == f32::NEG_INFINITY).collect()
    }

    #[test]
    fn what_would_complete_a_known_sequence_is_forbidden() {
        assert_eq!(forbidden(2, &[1, 2, 3, 1, 4, 1]), [2, 4]);
        assert_eq!(forbidden(3, &[1, 2, 3, 5, 1, 2]), [3]);
        assert!(forbidden(3, &[1, 2, 3, 5, 2, 1]).is_empty());
        assert_eq!(forbidden(1, &[1, 2, 99]), [1, 2]);
    }

    #[test]
    fn sequences_may_overlap() {
        assert_eq!(forbidden(2, &[3, 3]), [3]);
        assert!(forbidden(3, &[3, 3]).is_empty());
        assert_eq!(forbidden(3, &[3, 3, 3]), [3]);
    }

    #[test]
    fn a_short_history_forbids_nothing() {
        assert!(forbidden(4, &[1, 1]).is_empty());
        assert!(forbidden(9, &[1]).is_empty());
    }
}
