//! Text out of tokens, as they come.
//!
//! A token is not a piece of text: a character may take several, and how a token reads may depend on its
//! neighbours (spaces of SentencePiece). So a few tokens are decoded together, with and without the new
//! one, and what the new one adds is the text. What ends in a character that is not complete waits.

/// What an incomplete character is decoded to.
const INCOMPLETE: char = '\u{FFFD}';

/// The text of a row of tokens that grows.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    tokens: Vec<u32>,
    /// Tokens before this have no influence on what comes.
    window: usize,
    /// The text of tokens before this is in `text`.
    read: usize,
    text: String,
    /// Bytes of `text` that were given out.
    given: usize,
    /// Where a stop string begins in `text`.
    stop: Option<usize>,
}

impl TextStream {
    /// Appends a token; whether a stop string is complete with it.
    ///
    /// Once one is, the text ends before it.
    pub fn push(&mut self, token: u32, stop_strings: &[String], decode: &dyn Fn(&[u32]) -> String) -> bool {
        self.tokens.push(token);
        self.read_on(decode, false, stop_strings)
    }

    /// Takes what is left as it is, an incomplete character included; whether a stop string is complete with it.
    pub fn finish(&mut self, stop_strings: &[String], decode: &dyn Fn(&[u32]) -> String) -> bool {
        self.read_on(decode, true, stop_strings)
    }

    fn read_on(&mut self, decode: &dyn Fn(&[u32]) -> String, is_last: bool, stop_strings: &[String]) -> bool {
        if self.read == self.tokens.len() || self.stop.is_some() {
            return self.stop.is_some();
        }
        let before = decode(&self.tokens[self.window..self.read]);
        let after = decode(&self.tokens[self.window..]);
        if after.ends_with(INCOMPLETE) && !is_last {
            return false;
        }
        let known = self.text.len();
        // A decoder that takes back what it said has nothing to add.
        self.text.push_str(after.get(before.len()..).unwrap_or_default());
        self.window = self.read;
        self.read = self.tokens.len();
        self.stop = stop_strings.iter().filter_map(|stop| find_from(&self.text, stop, known)).min();
        if let Some(stop) = self.stop {
            self.text.truncate(stop);
        }
        self.stop.is_some()
    }

    /// The text that was not given yet and is certain to stay: what may be the beginning of a stop string waits,
    /// unless the text has ended.
    pub fn give(&mut self, stop_strings: &[String], has_ended: bool) -> &str {
        let waiting = if has_ended { 0 } else { begun_stop(&self.text, stop_strings) };
        let given = self.given.min(self.text.len());
        self.given = given.max(self.text.len() - waiting);
        &self.text[given..self.given]
    }

    /// The text so far, up to a stop string.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Where `stop` first occurs in `text` such that it ends after byte `known`.
fn find_from(text: &str, stop: &str, known: usize) -> Option<usize> {
    let mut from = (known + 1).saturating_sub(stop.len());
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..)?.find(stop).map(|place| from + place)
}

/// Bytes at the end of `text` that may be the beginning of a stop string.
fn begun_stop(text: &str, stop_strings: &[String]) -> usize {
    let begun = |stop: &String| {
        let beginnings = stop.char_indices().map(|(byte, _)| byte).filter(|&byte| byte > 0);
        beginnings.rev().find(|&byte| text.ends_with(&stop[..byte])).unwrap_or_default()
    };
    stop_strings.iter().map(begun).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are bytes.
    fn bytes(tokens: &[u32]) -> String {
        String::from_utf8_lossy(&tokens.iter().map(|&token| token as u8).collect::<Vec<_>>()).into_owned()
    }

    /// Pieces that `text` comes in, byte by byte, and whether it was stopped.
    fn pieces(text: &[u8], stop_strings: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stop_strings.iter().map(ToString::to_string).collect();
        let mut stream = TextStream::default();
        let mut pieces = Vec::new();
        for &byte in text {
            let stopped = stream.push(u32::from(byte), &stops, &bytes);
            pieces.push(stream.give(&stops, stopped).to_owned());
            if stopped {
                return (pieces, true);
            }
        }
        let stopped = stream.finish(&stops, &bytes);
        pieces.push(stream.give(&stops, true).to_owned());
        assert_eq!(pieces.concat(), stream.text());
        (pieces, stopped)
    }

    #[test]
    fn characters_come_when_they_are_complete() {
        let (found, _) = pieces("aé€".as_bytes(), &[]);
        assert_eq!(found, ["a", "", "é", "", "", "€", ""]);
        let (found, _) = pieces(b"a\xe2\x82", &[]);
        assert_eq!(found.concat(), "a\u{FFFD}");
    }

    #[test]
    fn the_beginning_of_a_stop_string_waits() {
        let (found, stopped) = pieces(b"a\n\nb", &["\n\n\n", "\nc"]);
        assert_eq!(found, ["a", "", "", "\n\nb", ""]);
        assert!(!stopped);
        let (found, stopped) = pieces(b"ab\n", &["\n\n"]);
        assert_eq!(found, ["a", "b", "", "\n"]);
        assert!(!stopped);
    }

    #[test]
    fn a_stop_string_is_cut_off() {
        let (found, stopped) = pieces(b"go STOP on", &["STOP"]);
        assert_eq!((found.concat().as_str(), stopped), ("go ", true));
        assert_eq!(found.len(), 7);
        assert_eq!(pieces(b"STOP", &["STOP"]).0.concat(), "");
        assert_eq!(pieces("ab€€c".as_bytes(), &["€€"]).0.concat(), "ab");
    }

    #[test]
    fn a_stop_string_may_end_inside_a_token() {
        let words = ["the ", "st", "opera", "stop", "stop now"];
        let decode = |tokens: &[u32]| tokens.iter().map(|&token| words[token as usize]).collect::<String>();
        let stops = ["stop".to_owned(), "op".to_owned()];
        let mut stream = TextStream::default();
        assert!(!stream.push(0, &stops, &decode));
        assert!(!stream.push(1, &stops, &decode));
        assert_eq!(stream.give(&stops, false), "the ");
        assert!(stream.push(2, &stops, &decode));
        assert_eq!(stream.give(&stops, true), "");
        assert_eq!(stream.text(), "the ");
        let mut stream = TextStream::default();
        assert!(stream.push(4, &stops, &decode));
        assert_eq!(stream.text(), "");
    }

    #[test]
    fn spaces_between_words_are_kept() {
        // As SentencePiece's decoders: a space before every word but the first.
        let words = ["how", "are", "you"];
        let decode =
            |tokens: &[u32]| tokens.iter().map(|&token| words[token as usize]).collect::<Vec<_>>().join(" ");
        let mut stream = TextStream::default();
        let mut pieces = Vec::new();
        for token in [0, 1, 2, 0] {
            stream.push(token, &[], &decode);
            pieces.push(stream.give(&[], false).to_owned());
        }
        assert_eq!(pieces, ["how", " are", " you", " how"]);
    }
}
