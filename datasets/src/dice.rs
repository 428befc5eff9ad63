//! Random choices that are the same on every machine and with every version of `rand`.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A ChaCha8 stream and the few choices that a generator needs.
///
/// The draws are spelled out here, on 64-bit integers alone: the sampling algorithms of `rand`
/// may change between versions, and the committed files must not.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A whole number from 0 to `count − 1`; 0 if `count` is 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        // The high word of the product: its bias is below count / 2^64.
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// A whole number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items, each as likely.
    pub(crate) fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    /// An index, each as likely as its weight.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_on_every_machine() {
        let mut dice = Dice::new(42);
        let draws: Vec<_> = (0..8).map(|_| dice.below(1000)).collect();
        assert_eq!(draws, [348, 285, 493, 367, 825, 67, 489, 266]);
    }

    #[test]
    fn choices_stay_in_range_and_follow_their_weights() {
        let mut dice = Dice::new(1);
        let mut seen = [0; 3];
        for _ in 0..6000 {
            seen[dice.weighted(&[1, 0, 5])] += 1;
            assert!((3..=5).contains(&dice.between(3, 5)));
        }
        assert_eq!(seen[1], 0);
        assert!((900..1100).contains(&seen[0]), "about one in six, found {seen:?}");
    }
}
