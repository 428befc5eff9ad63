//! Numbers for words, so that they are compared and counted as numbers.

use std::collections::HashMap;

/// Gives each distinct word a number from 1 on; 0 is nobody's, as [`Ngrams`](super::ngrams::Ngrams) asks.
#[derive(Default)]
pub struct Vocabulary {
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The numbers of words, in their order; a word not met before gets the next free one.
    pub fn ids(&mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Vec<u32> {
        let mut id = |word: String| {
            let next = self.ids.len() as u32 + 1;
            *self.ids.entry(word).or_insert(next)
        };
        words.into_iter().map(|word| id(word.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_number() {
        let mut vocabulary = Vocabulary::default();
        assert_eq!(vocabulary.ids(["a", "b", "a"]), [1, 2, 1]);
        assert_eq!(vocabulary.ids(["c", "b"]), [3, 2]);
    }
}
