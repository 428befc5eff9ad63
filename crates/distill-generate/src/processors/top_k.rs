//! `top_k`: draws among the most probable tokens.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;

/// Forbids all but the `k` most probable tokens; tokens as probable as the last of them stay too. Fan et
/// al. 2018, §5.4 (arXiv:1805.04833).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// Tokens to keep, at least 1.
    pub k: usize,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let k = config.top_k;
    (config.do_sample && k > 0).then(|| Box::new(TopK { k }) as _)
}

impl LogitsProcessor for TopK {
    fn process(&self, _: History<'_>, scores: &mut [f32]) {
        if self.k == 0 || self.k >= scores.len() {
            return;
        }
        let mut order = scores.to_vec();
        let (_, &mut last, _) = order.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a));
        for score in scores {
            if *score < last {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f32 = f32::NEG_INFINITY;

    fn kept(k: usize, mut scores: Vec<f32>) -> Vec<f32> {
        TopK { k }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        scores
    }

    #[test]
    fn the_most_probable_are_kept() {
        assert_eq!(kept(2, vec![1.0, 4.0, 2.0, 3.0]), [NONE, 4.0, NONE, 3.0]);
        assert_eq!(kept(9, vec![1.0, 4.0]), [1.0, 4.0]);
    }

    #[test]
    fn equal_tokens_stay_together() {
        assert_eq!(kept(2, vec![1.0, 4.0, 1.0, 0.0]), [1.0, 4.0, 1.0, NONE]);
        assert_eq!(kept(3, vec![1.0, NONE, NONE, NONE]), [1.0, NONE, NONE, NONE]);
    }
}
