//! Which words of a text can be replaced, and what can be put in their place.

use crate::error::TrainError;
use distill_data::tokenizer::{Tokenizer, Word};

/// What joins a word to the rest of it: `don't`, `it’s`.
const APOSTROPHES: [char; 2] = ['\'', '\u{2019}'];

/// The tokens that are words on their own: those that can be replaced, and that replace others.
pub(super) struct Vocabulary {
    /// The word of each token; `None` where it is none.
    words: Vec<Option<String>>,
    /// Ids of the words, ascending.
    ids: Vec<u32>,
}

impl Vocabulary {
    /// The words among the tokens of `tokenizer` that a model with `vocab_size` tokens knows.
    ///
    /// One letter is no word: most that stand alone are what is left of another (`'s`, `J.`).
    pub(super) fn new(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Self, TrainError> {
        let mut words = tokenizer.whole_words()?;
        words.truncate(vocab_size);
        for word in &mut words {
            // Counted in bytes: one Chinese character is a word.
            word.take_if(|word| word.len() == 1);
        }
        let ids = (0..).zip(&words).filter(|(_, word)| word.is_some()).map(|(id, _)| id).collect();
        Ok(Self { words, ids })
    }

    pub(super) fn word(&self, id: u32) -> Option<&str> {
        self.words.get(id as usize)?.as_deref()
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// A text with the words that can be replaced.
pub(super) struct Row {
    /// Its number in the data set.
    pub(super) number: usize,
    /// As it was written.
    pub(super) text: String,
    /// Tokens, special ones included.
    pub(super) ids: Vec<u32>,
    /// Words that can be replaced, in their order.
    pub(super) places: Vec<Place>,
}

/// A word that can be replaced: one token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// First byte in the text.
    pub(super) start: usize,
    /// The byte behind its last.
    pub(super) end: usize,
    /// Where its token stands in the row.
    pub(super) token: usize,
    /// Its token.
    pub(super) id: u32,
}

impl Row {
    pub(super) fn new(
        number: usize,
        text: &str,
        tokenizer: &Tokenizer,
        vocabulary: &Vocabulary,
        max_length: usize,
    ) -> Result<Self, TrainError> {
        let split = tokenizer.words(text, max_length)?;
        let place = |word: &Word| {
            let id = *split.ids.get(word.first_token)?;
            let replaceable = word.tokens == 1 && vocabulary.word(id).is_some() && !is_joined(text, word);
            replaceable.then_some(Place { start: word.start, end: word.end, token: word.first_token, id })
        };
        let places = split.words.iter().filter_map(place).collect();
        Ok(Self { number, text: text.to_owned(), places, ids: split.ids })
    }
}

/// Whether an apostrophe makes the word a part of a longer one.
fn is_joined(text: &str, word: &Word) -> bool {
    let joins = |mut outwards: &mut dyn Iterator<Item = char>| {
        (&mut outwards).next().is_some_and(|c| APOSTROPHES.contains(&c))
            && outwards.next().is_some_and(char::is_alphanumeric)
    };
    joins(&mut text[..word.start].chars().rev()) || joins(&mut text[word.end..].chars())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::tokenizer;
    use super::*;

    #[test]
    fn only_whole_words_can_be_replaced() {
        let tokenizer = tokenizer();
        let vocabulary = Vocabulary::new(&tokenizer, tokenizer.vocab_size()).expect("a vocabulary");
        let text = "The bank's printer, zzxy 2004 -- a Bank broke [MASK] don't broke’s 'bank'!";
        let row = Row::new(7, text, &tokenizer, &vocabulary, 64).expect("a row");
        let words: Vec<&str> = row.places.iter().map(|place| &text[place.start..place.end]).collect();
        assert_eq!(words, ["The", "printer", "Bank", "broke", "bank"]);
        for place in &row.places {
            assert_eq!(row.ids[place.token], place.id);
            assert_eq!(vocabulary.word(place.id), Some(text[place.start..place.end].to_lowercase().as_str()));
        }
        assert_eq!(row.number, 7);
    }

    #[test]
    fn a_word_is_more_than_a_letter_and_known_to_the_model() {
        let tokenizer = tokenizer();
        let vocabulary = Vocabulary::new(&tokenizer, tokenizer.vocab_size()).expect("a vocabulary");
        assert!(!vocabulary.ids().is_empty());
        assert!(vocabulary.ids().iter().all(|id| vocabulary.word(*id).is_some_and(|word| word.len() > 1)));
        let largest = *vocabulary.ids().last().expect("a word");
        let smaller = Vocabulary::new(&tokenizer, largest as usize).expect("a vocabulary");
        assert_eq!(smaller.ids(), &vocabulary.ids()[..vocabulary.ids().len() - 1]);
        assert_eq!(smaller.word(largest), None);
    }
}
