//! `min_p`: draws among tokens that are not far behind the best.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;
use crate::scores::highest;

/// Forbids tokens less probable than a fraction of the most probable one; Nguyen et al. 2024, §3
/// (arXiv:2407.01082).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinP {
    /// Fraction of the highest probability, 0 to 1.
    pub p: f64,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let p = config.min_p.filter(|_| config.do_sample)?;
    Some(Box::new(MinP { p }))
}

impl LogitsProcessor for MinP {
    fn process(&self, _: History<'_>, scores: &mut [f32]) {
        let highest = highest(scores);
        // Logarithms are compared; the sum over all tokens, which makes probabilities, would be on both sides.
        let distance = self.p.ln();
        for score in scores {
            if f64::from(*score - highest) < distance {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_far_behind_the_best_are_forbidden() {
        let mut scores = [0.6_f32, 0.2, 0.05, 0.15].map(f32::ln);
        MinP { p: 0.3 }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        assert_eq!(scores.map(|score| score > f32::NEG_INFINITY), [true, true, false, false]);
        MinP { p: 1.0 }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        assert_eq!(scores.map(|score| score > f32::NEG_INFINITY), [true, false, false, false]);
    }

    #[test]
    fn nothing_allowed_stays_so() {
        let mut scores = [f32::NEG_INFINITY; 2];
        MinP { p: 0.5 }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        assert_eq!(scores, [f32::NEG_INFINITY; 2]);
    }
}
