//! Byte-pair merges, learned in an order that depends on the corpus alone.
//!
//! Sennrich et al. 2016, §3.2 (arXiv:1508.07909): join the most frequent pair of neighbours, again
//! and again. The trainer of the `tokenizers` crate walks hash maps seeded anew in each process and
//! gives ids, and so breaks ties, in their order: two trainings on one corpus can differ. Here
//! every tie goes to the pair with the smaller ids, whatever the number of threads.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// A word as symbols, with how often it occurs.
pub(super) struct Word {
    pub(super) symbols: Vec<u32>,
    pub(super) count: u64,
}

/// Tokens in the order of their ids.
#[derive(Default)]
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// Id of a token, new if it was not there.
    pub(super) fn insert(&mut self, token: String) -> u32 {
        if let Some(id) = self.ids.get(&token) {
            return *id;
        }
        let id = self.tokens.len() as u32;
        self.ids.insert(token.clone(), id);
        self.tokens.push(token);
        id
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

type Pair = (u32, u32);

/// Pairs of neighbours: how often each occurs, and in which words.
#[derive(Default)]
struct Pairs {
    counts: HashMap<Pair, u64>,
    words: HashMap<Pair, HashSet<usize>>,
    /// May hold counts that are no longer true; they are put right when they come up.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Pairs {
    fn add(&mut self, index: usize, word: &Word) {
        for pair in word.symbols.windows(2).map(|pair| (pair[0], pair[1])) {
            *self.counts.entry(pair).or_default() += word.count;
            self.words.entry(pair).or_default().insert(index);
        }
    }

    fn remove(&mut self, word: &Word) {
        for pair in word.symbols.windows(2).map(|pair| (pair[0], pair[1])) {
            if let Some(count) = self.counts.get_mut(&pair) {
                *count = count.saturating_sub(word.count);
            }
        }
    }

    fn enqueue(&mut self, pair: Pair) {
        if let Some(count) = self.counts.get(&pair).filter(|count| **count > 0) {
            self.queue.push((*count, Reverse(pair)));
        }
    }

    /// The most frequent pair; of equals the one with the smaller ids.
    fn pop(&mut self) -> Option<(u64, Pair)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            match self.counts.get(&pair) {
                Some(current) if *current == count => return Some((count, pair)),
                _ => self.enqueue(pair),
            }
        }
        None
    }
}

/// Grows `vocabulary` to `vocab_size` tokens; returns the joined tokens in order.
///
/// `join` makes the new token of two; pairs that occur less than `min_frequency` times stay apart.
pub(super) fn learn(
    words: &mut [Word],
    vocabulary: &mut Vocabulary,
    vocab_size: usize,
    min_frequency: u64,
    join: impl Fn(&str, &str) -> String,
) -> Vec<(String, String)> {
    let mut pairs = Pairs::default();
    for (index, word) in words.iter().enumerate() {
        pairs.add(index, word);
    }
    let all: Vec<Pair> = pairs.counts.keys().copied().collect();
    for pair in all {
        pairs.enqueue(pair);
    }

    let mut merges = Vec::new();
    while vocabulary.tokens.len() < vocab_size
        && let Some((count, pair)) = pairs.pop()
        && count >= min_frequency.max(1)
    {
        let (left, right) =
            (vocabulary.tokens[pair.0 as usize].clone(), vocabulary.tokens[pair.1 as usize].clone());
        let joined = vocabulary.insert(join(&left, &right));
        merges.push((left, right));

        let mut grown = HashSet::new();
        for index in pairs.words.remove(&pair).unwrap_or_default() {
            let word = &mut words[index];
            pairs.remove(word);
            merge(&mut word.symbols, pair, joined);
            pairs.add(index, word);
            grown.extend(
                word.symbols
                    .windows(2)
                    .map(|pair| (pair[0], pair[1]))
                    .filter(|(left, right)| *left == joined || *right == joined),
            );
        }
        for pair in grown {
            pairs.enqueue(pair);
        }
    }
    merges
}

/// Replaces each `pair`, from the left, by `joined`.
fn merge(symbols: &mut Vec<u32>, pair: Pair, joined: u32) {
    let (mut read, mut write) = (0, 0);
    while read < symbols.len() {
        let found = symbols[read] == pair.0 && symbols.get(read + 1) == Some(&pair.1);
        symbols[write] = if found { joined } else { symbols[read] };
        read += if found { 2 } else { 1 };
        write += 1;
    }
    symbols.truncate(write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The obvious way: count every pair anew at each step.
    fn learn_slowly(corpus: &[(&str, u64)], steps: usize) -> Vec<(String, String)> {
        let mut vocabulary = Vocabulary::default();
        let mut words = words(corpus, &mut vocabulary);
        let mut merges = Vec::new();
        for _ in 0..steps {
            let mut counts = std::collections::BTreeMap::<Pair, u64>::new();
            for word in &words {
                for pair in word.symbols.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += word.count;
                }
            }
            let Some((pair, _)) = counts.into_iter().max_by_key(|(pair, count)| (*count, Reverse(*pair)))
            else {
                break;
            };
            let (left, right) =
                (vocabulary.tokens[pair.0 as usize].clone(), vocabulary.tokens[pair.1 as usize].clone());
            let joined = vocabulary.insert(format!("{left}{right}"));
            merges.push((left, right));
            for word in &mut words {
                merge(&mut word.symbols, pair, joined);
            }
        }
        merges
    }

    fn words(corpus: &[(&str, u64)], vocabulary: &mut Vocabulary) -> Vec<Word> {
        corpus
            .iter()
            .map(|(word, count)| Word {
                symbols: word.chars().map(|c| vocabulary.insert(c.to_string())).collect(),
                count: *count,
            })
            .collect()
    }

    #[test]
    fn merges_as_the_slow_reference_does() {
        let corpus = [
            ("low", 5),
            ("lower", 2),
            ("newest", 6),
            ("widest", 3),
            ("aaaa", 4),
            ("aaa", 4),
            ("banana", 7),
            ("bananas", 1),
            ("ananas", 2),
            ("lowest", 1),
        ];
        let mut vocabulary = Vocabulary::default();
        let mut split = words(&corpus, &mut vocabulary);
        let merges = learn(&mut split, &mut vocabulary, usize::MAX, 1, |l, r| format!("{l}{r}"));
        let expected = learn_slowly(&corpus, 1000);
        assert!(merges.len() > 20);
        assert_eq!(merges, expected);
        assert!(split.iter().all(|word| word.symbols.len() == 1));
    }

    #[test]
    fn min_frequency_and_size_bound_the_merges() {
        let corpus = [("ab", 3), ("cd", 2)];
        let learned = |size, frequency| {
            let mut vocabulary = Vocabulary::default();
            let mut split = words(&corpus, &mut vocabulary);
            learn(&mut split, &mut vocabulary, size, frequency, |l, r| format!("{l}{r}")).len()
        };
        assert_eq!(learned(100, 1), 2);
        assert_eq!(learned(100, 3), 1);
        assert_eq!(learned(100, 4), 0);
        assert_eq!(learned(5, 1), 1);
    }

    #[test]
    fn merge_goes_from_the_left() {
        let mut symbols = vec![1, 1, 1, 2, 1, 1];
        merge(&mut symbols, (1, 1), 3);
        assert_eq!(symbols, [3, 1, 2, 3]);
    }
}
