//! N-grams of all orders from one sort.

/// The n-grams of a sequence, up to an order.
///
/// Each position's longest n-gram is packed into one number, its first symbol highest, and the
/// numbers are sorted; their upper parts are then the sorted n-grams of every lower order.
pub struct Ngrams {
    keys: Vec<u128>,
    max_order: usize,
}

impl Ngrams {
    /// The n-grams of `symbols`, none of which may be 0, up to `max_order` symbols long. Each symbol
    /// has `128 / max_order` bits.
    pub fn new(symbols: &[u32], max_order: usize) -> Self {
        let bits = 128 / max_order;
        debug_assert!(symbols.iter().all(|&symbol| symbol != 0 && u128::from(symbol) >> bits == 0));
        let pack = |start: usize| {
            let window = &symbols[start..symbols.len().min(start + max_order)];
            let place = |key, (position, &symbol)| key | u128::from(symbol) << (128 - bits * (position + 1));
            window.iter().enumerate().fold(0, place)
        };
        let mut keys: Vec<_> = (0..symbols.len()).map(pack).collect();
        keys.sort_unstable();
        Self { keys, max_order }
    }

    /// The n-grams of one order, sorted, each as often as it occurs.
    pub fn of_order(&self, order: usize) -> Vec<u128> {
        let bits = 128 / self.max_order;
        let last_symbol = (1 << bits) - 1;
        let cut = self.keys.iter().map(|key| key >> (128 - bits * order));
        // Where the sequence ends before the n-gram does, its last symbol is 0.
        cut.filter(|ngram| ngram & last_symbol != 0).collect()
    }
}

/// How many elements two sorted lists share, repetitions counted.
pub fn shared<T: Ord>(left: &[T], right: &[T]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < left.len() && j < right.len() {
        match left[i].cmp(&right[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                (i, j) = (i + 1, j + 1);
                count += 1;
            }
        }
    }
    count
}

/// The elements of either of two sorted lists, sorted, each as often as in the list that has more of it.
pub fn union<T: Ord + Copy>(left: &[T], right: &[T]) -> Vec<T> {
    let mut joined = Vec::with_capacity(left.len().max(right.len()));
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        let (a, b) = (left[i], right[j]);
        joined.push(a.min(b));
        i += usize::from(a <= b);
        j += usize::from(b <= a);
    }
    joined.extend(&left[i..]);
    joined.extend(&right[j..]);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_sorted_and_complete() {
        let ngrams = Ngrams::new(&[2, 1, 2, 1], 2);
        assert_eq!(ngrams.of_order(1), [1, 1, 2, 2]);
        let pair = |first: u128, second: u128| first << 64 | second;
        assert_eq!(ngrams.of_order(2), [pair(1, 2), pair(2, 1), pair(2, 1)]);
    }

    #[test]
    fn six_characters_fit() {
        let last = char::MAX as u32 + 1;
        let ngrams = Ngrams::new(&[last; 7], 6);
        for order in 1..=6 {
            let found = ngrams.of_order(order);
            assert_eq!(found.len(), 8 - order);
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn a_short_sequence_has_no_long_ngrams() {
        let ngrams = Ngrams::new(&[5, 6], 4);
        assert_eq!([1, 2, 3, 4].map(|order| ngrams.of_order(order).len()), [2, 1, 0, 0]);
        assert!(Ngrams::new(&[], 4).of_order(1).is_empty());
    }

    #[test]
    fn repetitions_count() {
        assert_eq!(shared(&[1, 1, 2, 3], &[1, 1, 1, 3, 4]), 3);
        assert_eq!(shared(&[1], &[]), 0);
        assert_eq!(union(&[1, 1, 2], &[1, 2, 2, 3]), [1, 1, 2, 2, 3]);
        assert_eq!(union(&[], &[7]), [7]);
    }
}
