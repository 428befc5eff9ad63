//! Which rows make up a batch, and in which order the batches come.
use crate::shuffle::{Purpose, Shuffler};

/// Batches whose rows are sorted by length together, as in the Hugging Face `LengthGroupedSampler`.
const MEGA_BATCH: usize = 50;

/// Batches of an epoch, as positions into `lengths`: rows of similar length together, in random order.
///
/// A pure function of its arguments. Rows are shuffled, cut into runs of 50 batches, each run sorted
/// by length and cut into batches, and all batches shuffled. Every position occurs once; one batch
/// may be smaller than `batch_size`. Empty if `lengths` is; `batch_size` 0 counts as 1.
pub fn epoch_order(lengths: &[u32], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let batch_size = batch_size.max(1);
    let mut shuffler = Shuffler::new(seed, Purpose::Epoch, epoch);
    let mut positions: Vec<usize> = (0..lengths.len()).collect();
    shuffler.shuffle(&mut positions);
    let mut batches = Vec::with_capacity(lengths.len().div_ceil(batch_size));
    for run in positions.chunks_mut(batch_size.saturating_mul(MEGA_BATCH)) {
        run.sort_by_key(|position| std::cmp::Reverse(lengths[*position]));
        batches.extend(run.chunks(batch_size).map(<[usize]>::to_vec));
    }
    shuffler.shuffle(&mut batches);
    batches
}

/// Batches for evaluation, as positions into `lengths`: sorted by length, longest first.
///
/// The longest batch comes first, so that a lack of memory shows at once. Rows of equal length keep
/// their order.
pub fn sequential_batches(lengths: &[u32], batch_size: usize) -> Vec<Vec<usize>> {
    let mut positions: Vec<usize> = (0..lengths.len()).collect();
    positions.sort_by_key(|position| std::cmp::Reverse(lengths[*position]));
    positions.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(rows: usize) -> Vec<u32> {
        (0..rows).map(|row| 5 + (row * 7919 % 97) as u32).collect()
    }

    /// Tokens after padding each batch to its longest row.
    fn padded(batches: &[Vec<usize>], lengths: &[u32]) -> u32 {
        batches
            .iter()
            .map(|batch| batch.len() as u32 * batch.iter().map(|row| lengths[*row]).max().unwrap())
            .sum()
    }

    #[test]
    fn every_row_comes_once() {
        for (rows, batch_size) in [(0, 4), (1, 4), (1003, 8), (1000, 1), (7, 100), (9, 0)] {
            let lengths = lengths(rows);
            for batches in [epoch_order(&lengths, batch_size, 1, 0), sequential_batches(&lengths, batch_size)]
            {
                let mut seen = batches.concat();
                seen.sort_unstable();
                assert_eq!(seen, (0..rows).collect::<Vec<_>>());
                let smaller = batches.iter().filter(|batch| batch.len() != batch_size.max(1)).count();
                assert!(smaller <= 1, "{rows} {batch_size}");
            }
        }
    }

    #[test]
    fn order_depends_on_seed_and_epoch_alone() {
        let lengths = lengths(500);
        let order = epoch_order(&lengths, 8, 42, 3);
        assert_eq!(order, epoch_order(&lengths, 8, 42, 3));
        assert_ne!(order, epoch_order(&lengths, 8, 42, 4));
        assert_ne!(order, epoch_order(&lengths, 8, 43, 3));
    }

    #[test]
    fn grouping_by_length_saves_padding() {
        let lengths = lengths(4000);
        let tokens: u32 = lengths.iter().sum();
        let in_order: Vec<Vec<usize>> =
            (0..4000).collect::<Vec<_>>().chunks(16).map(<[usize]>::to_vec).collect();
        assert!(padded(&in_order, &lengths) > tokens * 17 / 10);
        assert!(padded(&epoch_order(&lengths, 16, 1, 0), &lengths) < tokens * 105 / 100);
        assert!(padded(&sequential_batches(&lengths, 16), &lengths) < tokens * 101 / 100);
    }

    #[test]
    fn batches_are_not_sorted_by_length() {
        let lengths = lengths(1600);
        let longest: Vec<u32> =
            epoch_order(&lengths, 16, 1, 0).iter().map(|batch| lengths[batch[0]]).collect();
        assert!(!longest.is_sorted() && !longest.iter().rev().is_sorted());
        assert_eq!(lengths[sequential_batches(&lengths, 16)[0][0]], *lengths.iter().max().unwrap());
    }
}
