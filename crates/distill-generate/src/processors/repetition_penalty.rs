//! `repetition_penalty`: what occurred becomes less likely.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;

/// Divides positive scores of tokens that occurred, prompt included, by a penalty and multiplies negative
/// ones by it; Keskar et al. 2019, §4.1 (arXiv:1909.05858). How often a token occurred does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepetitionPenalty {
    /// Above 1 makes repetition less likely, below 1 more; above 0.
    pub penalty: f32,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let penalty = config.repetition_penalty;
    (penalty != 1.0).then(|| Box::new(RepetitionPenalty { penalty: penalty as f32 }) as _)
}

impl LogitsProcessor for RepetitionPenalty {
    fn process(&self, history: History<'_>, scores: &mut [f32]) {
        // All are computed before any is written, so that a token that occurred twice is changed once.
        let changed: Vec<_> = history
            .tokens
            .iter()
            .filter_map(|&token| Some((token as usize, *scores.get(token as usize)?)))
            .map(|(token, score)| {
                (token, if score < 0.0 { score * self.penalty } else { score / self.penalty })
            })
            .collect();
        for (token, score) in changed {
            scores[token] = score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_history_are_changed_once() {
        let mut scores = [4.0, -4.0, 4.0, -4.0, 0.0];
        let history = History { tokens: &[0, 1, 0, 1, 1, 4, 99], prompt_length: 3 };
        RepetitionPenalty { penalty: 2.0 }.process(history, &mut scores);
        assert_eq!(scores, [2.0, -8.0, 4.0, -4.0, 0.0]);
    }
}
