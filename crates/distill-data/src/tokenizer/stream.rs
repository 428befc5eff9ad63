//! Text that grows token by token, for the terminal.
use super::{Tokenizer, TokenizerError};

/// What stands for bytes that are no character (yet).
const REPLACEMENT: char = '\u{fffd}';

/// Turns tokens into text as they come: whole characters only, special tokens left out.
///
/// A token may be part of a character, and the space before a word may depend on what precedes it;
/// so the last words are decoded together with every new token, and what is new of them is given.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens whose text was given last, which show how the next ones join, and new ones.
    ids: Vec<u32>,
    /// How many of `ids` have been given.
    given: usize,
}

impl<'a> TextStream<'a> {
    /// An empty text.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0 }
    }

    /// Adds a token and returns the text that is sure by now; empty while a character is not whole.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] if the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        self.ids.push(id);
        let (before, all) = self.decode()?;
        if all.ends_with(REPLACEMENT) || all.len() <= before.len() {
            return Ok(String::new());
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(all.get(before.len()..).unwrap_or_default().to_owned())
    }

    /// What is left at the end: characters that were never whole, as `\u{fffd}`.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(self) -> Result<String, TokenizerError> {
        let (before, all) = self.decode()?;
        Ok(all.get(before.len()..).unwrap_or_default().to_owned())
    }

    /// The text of the tokens that have been given, and of all.
    fn decode(&self) -> Result<(String, String), TokenizerError> {
        Ok((self.tokenizer.decode(&self.ids[..self.given])?, self.tokenizer.decode(&self.ids)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TokenizerKind, TrainConfig};
    use super::*;

    fn tokenizer(kind: TokenizerKind) -> Tokenizer {
        let texts = ["printer broken, printers break", "gr\u{fc}\u{df}e \u{4e2d}\u{6587}"];
        let config = TrainConfig { kind, vocab_size: 400, lowercase: false, min_frequency: 1 };
        Tokenizer::train(texts, &config).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn pieces_are_whole_characters_and_join_to_the_text() {
        for kind in [TokenizerKind::Gpt2, TokenizerKind::Bpe, TokenizerKind::WordPiece] {
            let tokenizer = tokenizer(kind);
            let text = "printers  broken: gr\u{fc}\u{df}e \u{4e2d}\u{6587}, \u{1f600} break";
            let ids = tokenizer.encode(text, 200).unwrap().ids;
            let pieces = pieces(&tokenizer, &ids);
            assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap(), "{kind:?}");
            assert!(!pieces.concat().contains(REPLACEMENT));
            assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > 5);
        }
    }

    #[test]
    fn broken_characters_come_when_the_next_is_whole_or_at_the_end() {
        let tokenizer = tokenizer(TokenizerKind::Gpt2);
        let smile = tokenizer.encode_text("\u{1f600}").unwrap();
        assert_eq!(smile.len(), 4);
        let a = tokenizer.encode_text("a").unwrap()[0];
        assert_eq!(pieces(&tokenizer, &[smile[0], smile[1], a]), ["", "", "\u{fffd}a", ""]);
        assert_eq!(pieces(&tokenizer, &[a, smile[0]]), ["a", "", "\u{fffd}"]);
    }

    #[test]
    fn any_ids_join_to_their_text() {
        let tokenizer = tokenizer(TokenizerKind::Gpt2);
        let mut state = 1_u64;
        for length in 1..60 {
            let ids: Vec<u32> = (0..length)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u32 % tokenizer.vocab_size() as u32
                })
                .collect();
            assert_eq!(pieces(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap(), "{ids:?}");
        }
    }
}
