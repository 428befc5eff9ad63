//! `top_p`: draws among the tokens that have most of the probability.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;
use crate::scores::{highest, weight};

/// Forbids all but the fewest most probable tokens that have the probability `p` together: the nucleus of
/// Holtzman et al. 2019, §3.1 (arXiv:1904.09751). Counted from below, as Hugging Face does: tokens go, the
/// least probable first, while those gone have at most `1 − p`; the most probable one stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopP {
    /// Fraction, 0 to 1.
    pub p: f64,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let p = config.top_p;
    (config.do_sample && p < 1.0).then(|| Box::new(TopP { p }) as _)
}

impl LogitsProcessor for TopP {
    fn process(&self, _: History<'_>, scores: &mut [f32]) {
        let highest = highest(scores);
        let total: f64 = scores.iter().map(|&score| weight(score, highest)).sum();
        if !total.is_finite() {
            return;
        }
        // Probabilities are compared in f32, as Hugging Face does: tokens exactly at `1 − p` are common with
        // equal scores, and `1.0 − 0.8` is below 0.2 in f64.
        let may_go = |gone: f64| (gone / total) as f32 <= (1.0 - self.p) as f32;
        // Tokens that are so improbable that even all of them together may go need no place in the order,
        // which spares most of the sort.
        let surely = (1.0 - self.p) * total / scores.len() as f64;
        let mut gone = 0.0;
        let mut order: Vec<(f32, usize)> = Vec::new();
        for (token, score) in scores.iter_mut().enumerate() {
            let weight = weight(*score, highest);
            if weight < surely {
                gone += weight;
                *score = f32::NEG_INFINITY;
            } else {
                order.push((*score, token));
            }
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.pop();
        for (score, token) in order {
            gone += weight(score, highest);
            if !may_go(gone) {
                break;
            }
            scores[token] = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(p: f64, probabilities: &[f32]) -> Vec<usize> {
        let mut scores: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        TopP { p }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        (0..scores.len()).filter(|&token| scores[token] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn the_fewest_tokens_that_reach_p_are_kept() {
        let probabilities = [0.1, 0.45, 0.05, 0.4];
        assert_eq!(kept(0.3, &probabilities), [1]);
        assert_eq!(kept(0.5, &probabilities), [1, 3]);
        assert_eq!(kept(0.84, &probabilities), [1, 3]);
        assert_eq!(kept(0.86, &probabilities), [0, 1, 3]);
        assert_eq!(kept(0.96, &probabilities), [0, 1, 2, 3]);
    }

    #[test]
    fn the_most_probable_stays() {
        assert_eq!(kept(0.0, &[0.1, 0.6, 0.3]), [1]);
        assert_eq!(kept(0.0, &[0.5, 0.5]), [1]);
        assert_eq!(kept(0.5, &[0.0, 1.0, 0.0]), [1]);
    }

    #[test]
    fn equal_tokens_at_the_border_go() {
        assert_eq!(kept(0.8, &[0.2; 5]), [1, 2, 3, 4]);
    }

    #[test]
    fn the_smallest_set_for_random_scores() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut random = ChaCha8Rng::from_seed([5; 32]);
        let mut fraction = move || f64::from(random.next_u32()) / f64::from(u32::MAX);
        for _ in 0..200 {
            let weights: Vec<f64> = (0..60).map(|_| (6.0 * fraction()).exp()).collect();
            let total: f64 = weights.iter().sum();
            let probabilities: Vec<f32> = weights.iter().map(|weight| (weight / total) as f32).collect();
            let p = fraction();
            let mut mass: Vec<f64> =
                kept(p, &probabilities).into_iter().map(|token| weights[token] / total).collect();
            mass.sort_by(f64::total_cmp);
            let sum: f64 = mass.iter().sum();
            assert!(sum >= p - 1e-5, "{sum} of {p}");
            assert!(sum - mass[0] <= p + 1e-5, "{sum} without {} of {p}", mass[0]);
            let mut all = weights.clone();
            all.sort_by(f64::total_cmp);
            assert!(
                (all[all.len() - mass.len()] / total - mass[0]).abs() < 1e-9,
                "the most probable are kept"
            );
        }
    }
}
