//! The one source of chance for data: ChaCha8, and Fisher and Yates' shuffle.
//!
//! All draws are written out here rather than taken from `rand`, which may change its draws from one
//! version to the next; a run must resume with the order that it began with.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What the draws are for; each purpose has its own stream, so that one seed serves them all.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Which rows are held out for validation.
    Split = 1,
    /// Which rows are kept of too many.
    Subset = 2,
    /// The order of an epoch.
    Epoch = 3,
    /// Which tokens of a row are masked.
    Masking = 4,
    /// Which words of a text are replaced, and by what.
    Augmentation = 5,
}

/// Draws that depend on what it is made from alone.
pub struct Shuffler(ChaCha8Rng);

impl Shuffler {
    /// The draws of `index` (an epoch, say); those of row 0.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self::of_row(seed, purpose, index, 0)
    }

    /// The draws of one row in `index`, such as a pass over the data or a copy of them.
    pub fn of_row(seed: u64, purpose: Purpose, index: u64, row: u64) -> Self {
        let mut key = [0; 32];
        for (slot, part) in key.chunks_exact_mut(8).zip([seed, purpose as u64, index, row]) {
            slot.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Shuffles in place; every order is equally likely (Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A number from 0 up to 1, 1 excluded: a multiple of 2⁻⁵³.
    pub fn fraction(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// An integer below `bound`, without bias (Lemire 2019, arXiv:1805.10941); 0 if `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, purpose: Purpose, index: u64) -> Vec<usize> {
        let mut items: Vec<usize> = (0..10).collect();
        Shuffler::new(seed, purpose, index).shuffle(&mut items);
        items
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = order(42, Purpose::Epoch, 0);
        assert_eq!(first, order(42, Purpose::Epoch, 0));
        for other in
            [order(43, Purpose::Epoch, 0), order(42, Purpose::Split, 0), order(42, Purpose::Epoch, 1)]
        {
            assert_ne!(first, other);
        }
        let draw = |row| Shuffler::of_row(42, Purpose::Epoch, 0, row).below(u64::MAX);
        assert_eq!(draw(0), Shuffler::new(42, Purpose::Epoch, 0).below(u64::MAX));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn fractions_are_even_and_below_one() {
        let mut shuffler = Shuffler::new(7, Purpose::Masking, 0);
        let fractions: Vec<f64> = (0..10_000).map(|_| shuffler.fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        // Mean of 10,000 even draws: standard deviation 0.0029.
        assert!((fractions.iter().sum::<f64>() / 1e4 - 0.5).abs() < 0.012);
        assert_eq!(shuffler.below(0), 0);
        assert_eq!(shuffler.below(1), 0);
    }

    /// The order must not change from one version of this crate to the next.
    #[test]
    fn the_draws_are_pinned() {
        assert_eq!(order(42, Purpose::Epoch, 0), [0, 1, 7, 8, 4, 2, 9, 6, 3, 5]);
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::<[u8; 4], u32>::new();
        for index in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            Shuffler::new(1, Purpose::Subset, index).shuffle(&mut items);
            *counts.entry(items).or_default() += 1;
        }
        // 24 orders, 1000 each expected, standard deviation 31.
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
