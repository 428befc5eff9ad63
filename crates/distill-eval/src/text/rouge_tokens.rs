//! Words as ROUGE counts them.

use super::porter_stemmer::stem;

/// Whether words are compared by their stems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stemming {
    /// Words are compared as they are.
    Off,
    /// Words of more than three letters are compared by the stem that NLTK's Porter stemmer gives.
    Porter,
}

/// The runs of `a` to `z` and `0` to `9` in the lower-case text, stemmed if that is asked for; any
/// other letter parts words.
pub fn rouge_tokens(text: &str, stemming: Stemming) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let words = words.filter(|word| !word.is_empty());
    match stemming {
        Stemming::Off => words.map(str::to_owned).collect(),
        Stemming::Porter => {
            words.map(|word| if word.len() > 3 { stem(word) } else { word.to_owned() }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_letters_and_digits_make_words() {
        assert_eq!(
            rouge_tokens("It's 3.5\u{a0}mg, na\u{ef}ve_B12!", Stemming::Off),
            ["it", "s", "3", "5", "mg", "na", "ve", "b12"]
        );
        assert!(rouge_tokens(" \u{2026} \u{4e2d}\u{6587} ", Stemming::Off).is_empty());
    }

    /// The Kelvin sign becomes `k`, the dotted capital `i` and a mark above.
    #[test]
    fn lower_case_is_that_of_unicode() {
        assert_eq!(rouge_tokens("\u{212a}elvin \u{130}stanbul", Stemming::Off), ["kelvin", "i", "stanbul"]);
    }

    #[test]
    fn short_words_keep_their_endings() {
        assert_eq!(rouge_tokens("Gas uses cats", Stemming::Porter), ["gas", "use", "cat"]);
    }
}
