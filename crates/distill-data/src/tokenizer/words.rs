//! Words: where they stand in a text, which tokens they became, and which tokens are words.

use rayon::prelude::*;
use tokenizers::Encoding;
use tokenizers::utils::truncation::TruncationDirection;

use super::{Tokenizer, TokenizerError};

/// A text as token ids, with the words that they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordsOfText {
    /// Token ids with special tokens, at most `max_length` of them, as [`Tokenizer::encode`] gives them.
    pub ids: Vec<u32>,
    /// Words in their order, none of them overlapping; one that was cut off is left out.
    pub words: Vec<Word>,
}

/// What the tokenizer splits before it looks for tokens: a word or a punctuation mark, as a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// First byte in the text as it was written.
    pub start: usize,
    /// The byte behind its last; white space around the word is not part of it.
    pub end: usize,
    /// Place of its first token in `ids`.
    pub first_token: usize,
    /// Number of its tokens, 1 or more.
    pub tokens: usize,
}

impl Tokenizer {
    /// Splits a text into words, and encodes it as [`Tokenizer::encode`] does.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn words(&self, text: &str, max_length: usize) -> Result<WordsOfText, TokenizerError> {
        let room = self.room(max_length)?;
        self.words_in(text, room)
            .map_err(|error| TokenizerError::Encode { index: 0, message: error.to_string() })
    }

    fn words_in(&self, text: &str, room: usize) -> tokenizers::Result<WordsOfText> {
        let mut encoding = self.inner.encode(text, false)?;
        let mut words = words_of(text, &encoding);
        if encoding.len() > room {
            encoding.truncate(room, 0, TruncationDirection::Right);
            encoding.take_overflowing();
            words.retain(|word| word.first_token + word.tokens <= room);
        }
        let encoding = self.inner.post_process(encoding, None, true)?;
        let before = encoding.get_special_tokens_mask().iter().take_while(|special| **special == 1).count();
        for word in &mut words {
            word.first_token += before;
        }
        Ok(WordsOfText { ids: encoding.get_ids().to_vec(), words })
    }

    /// For each id below [`Tokenizer::vocab_size`], the word that this one token stands for.
    ///
    /// `None` for special tokens, for pieces of words (`##ing`, or a byte-level token without its space), and for what
    /// has no letter, or a punctuation mark beside its letters: all tokens that do not come back when their text is
    /// encoded as a word among others.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] or [`TokenizerError::Encode`] if the tokenizer fails on one of its own tokens.
    pub fn whole_words(&self) -> Result<Vec<Option<String>>, TokenizerError> {
        (0..self.vocab_size as u32).into_par_iter().map(|id| self.whole_word(id)).collect()
    }

    fn whole_word(&self, id: u32) -> Result<Option<String>, TokenizerError> {
        if self.is_special(id) {
            return Ok(None);
        }
        let text = self.decode(&[id])?;
        let word = text.trim();
        if !word.chars().any(char::is_alphabetic) || word.contains(|c: char| c.is_whitespace() || is_mark(c))
        {
            return Ok(None);
        }
        // With a space before it, as a byte-level tokenizer meets a word within a text.
        let encoding = self
            .inner
            .encode_fast(format!(" {word}"), false)
            .map_err(|error| TokenizerError::Encode { index: 0, message: error.to_string() })?;
        Ok((encoding.get_ids() == [id]).then(|| word.to_owned()))
    }
}

fn is_mark(character: char) -> bool {
    character.is_ascii_punctuation()
}

/// The words of an encoding without special tokens, `first_token` counted from its start.
fn words_of(text: &str, encoding: &Encoding) -> Vec<Word> {
    let numbers = encoding.get_word_ids();
    let offsets = encoding.get_offsets();
    let mut words: Vec<Word> = Vec::new();
    let mut first_token = 0;
    for group in numbers.chunk_by(|left, right| left == right) {
        let tokens = group.len();
        let places = &offsets[first_token..first_token + tokens];
        let start = places.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = places.iter().map(|(_, end)| *end).max().unwrap_or(0);
        // One character can become two words; there is then nothing in the text for the second alone.
        let after_last = words.last().is_none_or(|last| last.end <= start);
        if let Some(written) = text.get(start..end).filter(|written| after_last && !written.trim().is_empty())
        {
            let start = end - written.trim_start().len();
            words.push(Word { start, end: start + written.trim().len(), first_token, tokens });
        }
        first_token += tokens;
    }
    let next_starts: Vec<usize> = words.iter().skip(1).map(|word| word.start).chain([text.len()]).collect();
    for (word, next) in words.iter_mut().zip(next_starts) {
        word.end += dropped_marks(&text[word.end..next]);
    }
    words
}

/// Bytes at the start of `rest` that normalisation dropped from the word before: accents written as characters of
/// their own, say, which would otherwise be left standing where the word was.
fn dropped_marks(rest: &str) -> usize {
    let of_word = |c: char| !c.is_ascii() && !c.is_whitespace() && !c.is_alphanumeric();
    rest.find(|c| !of_word(c)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::super::{TokenizerKind, TrainConfig};
    use super::*;

    fn trained(kind: TokenizerKind) -> Tokenizer {
        let texts = [
            "The printer is broken, the printer is broken again!",
            "my printer broke; the broken one is mine in 2004",
            "again and again the printer prints nothing in 2004",
        ];
        Tokenizer::train(texts, &TrainConfig { kind, vocab_size: 400, ..TrainConfig::default() }).unwrap()
    }

    fn written<'a>(text: &'a str, words: &WordsOfText) -> Vec<&'a str> {
        words.words.iter().map(|word| &text[word.start..word.end]).collect()
    }

    #[test]
    fn words_are_found_where_they_were_written() {
        let text = "  The PRINTER, is\tbroken!  the\u{a0}printer ";
        for kind in [TokenizerKind::WordPiece, TokenizerKind::Bpe] {
            let tokenizer = trained(kind);
            let words = tokenizer.words(text, 64).unwrap();
            assert_eq!(words.ids, tokenizer.encode(text, 64).unwrap().ids);
            let expected = ["The", "PRINTER", ",", "is", "broken", "!", "the", "printer"];
            let found: Vec<&str> = written(text, &words);
            match kind {
                TokenizerKind::WordPiece => assert_eq!(found, expected),
                // Bytes of a no-break space are a word of their own in byte-level splitting, or go with the next.
                TokenizerKind::Bpe | TokenizerKind::Gpt2 => assert_eq!(found[..6], expected[..6]),
            }
            for word in words.words.iter().filter(|word| word.tokens == 1) {
                let token = tokenizer.id_to_token(words.ids[word.first_token]).unwrap();
                let token = token.trim_start_matches('\u{120}');
                assert_eq!(token, text[word.start..word.end].to_lowercase());
            }
        }
    }

    #[test]
    fn a_word_that_is_cut_off_is_left_out() {
        let tokenizer = trained(TokenizerKind::WordPiece);
        let text = "the printer zzz mine";
        let full = tokenizer.words(text, 64).unwrap();
        for max_length in 2..full.ids.len() {
            let cut = tokenizer.words(text, max_length).unwrap();
            assert_eq!(cut.ids, tokenizer.encode(text, max_length).unwrap().ids);
            let fits = |word: &&Word| word.first_token + word.tokens < max_length;
            let expected: Vec<Word> = full.words.iter().filter(fits).cloned().collect();
            assert_eq!(cut.words, expected);
        }
        assert!(tokenizer.words(text, 1).is_err());
    }

    #[test]
    fn accents_of_their_own_belong_to_their_word() {
        let tokenizer = trained(TokenizerKind::WordPiece);
        let text = "printe\u{301}r\u{301}, \u{e9}mine\u{301}";
        let words = tokenizer.words(text, 64).unwrap();
        assert_eq!(written(text, &words), ["printe\u{301}r\u{301}", ",", "\u{e9}mine\u{301}"]);
    }

    #[test]
    fn special_tokens_in_a_text_are_words_of_it() {
        let tokenizer = trained(TokenizerKind::WordPiece);
        let text = "[MASK] printer [SEP]";
        let words = tokenizer.words(text, 64).unwrap();
        assert_eq!(written(text, &words), ["[MASK]", "printer", "[SEP]"]);
        let first: Vec<usize> = words.words.iter().map(|word| word.first_token).collect();
        assert_eq!(first, [1, 2, 3]);
        assert_eq!(words.ids.len(), 5);
    }

    #[test]
    fn texts_without_words_have_none() {
        for kind in [TokenizerKind::WordPiece, TokenizerKind::Bpe] {
            let tokenizer = trained(kind);
            for text in ["", " ", "\u{200b}", "\u{301}"] {
                let words = tokenizer.words(text, 16).unwrap();
                assert_eq!(words.ids, tokenizer.encode(text, 16).unwrap().ids);
                assert!(words.words.iter().all(|word| word.start < word.end), "{text:?}");
            }
        }
    }

    #[test]
    fn whole_words_are_neither_pieces_nor_marks() {
        for kind in [TokenizerKind::WordPiece, TokenizerKind::Bpe] {
            let tokenizer = trained(kind);
            let words = tokenizer.whole_words().unwrap();
            assert_eq!(words.len(), tokenizer.vocab_size());
            for word in ["printer", "broken", "the", "again"] {
                assert!(words.iter().flatten().any(|found| found == word), "{word} of {kind:?}");
            }
            for (id, word) in (0..).zip(&words) {
                let Some(word) = word else { continue };
                assert!(!tokenizer.is_special(id) && word.chars().all(char::is_alphanumeric), "{word}");
                assert_ne!(word, "2004");
                let encoded = tokenizer.words(&format!("the {word}"), 16).unwrap();
                assert_eq!(encoded.words.len(), 2, "{word} of {kind:?}");
                assert_eq!(encoded.ids[encoded.words[1].first_token], id);
            }
            let pieces =
                ["##er", "##s", "er", "2004", ",", "[MASK]"].map(|token| tokenizer.token_to_id(token));
            // `er` is no word of the texts, so that there it is a byte-level piece.
            let pieces = pieces.into_iter().flatten().filter(|id| words[*id as usize].is_some());
            assert_eq!(pieces.count(), 0, "{kind:?}");
        }
    }
}
