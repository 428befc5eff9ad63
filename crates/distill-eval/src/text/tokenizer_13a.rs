//! The tokenizer of BLEU as WMT computes it (`mteval-v13a`).

use super::whitespace::{trim_end, words};

/// The tokens of a text: punctuation stands alone, but for hyphens, apostrophes, and points and
/// commas between digits. As in sacrebleu's `13a`; Post 2018, section 2 (arXiv:1804.08771).
pub fn tokenizer_13a(text: &str) -> Vec<String> {
    let mut line = trim_end(text).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // One after the other, so that `&amp;lt;` becomes `<`.
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replace(entity, character);
    }
    line = set_apart(&format!(" {line} "));
    line = replace_pairs(&line, |a, b| !a.is_ascii_digit() && is_point(b), |a, b| [a, ' ', b, ' ']);
    line = replace_pairs(&line, |a, b| is_point(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    line = replace_pairs(&line, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    words(&line).map(str::to_owned).collect()
}

fn is_point(c: char) -> bool {
    matches!(c, '.' | ',')
}

/// Puts spaces around ASCII punctuation, but for the four that depend on their neighbours.
fn set_apart(line: &str) -> String {
    let mut spaced = String::with_capacity(2 * line.len());
    for c in line.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | '-' | '\'') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced
}

/// Replaces pairs of neighbours from the left, as a regular expression would: a character that was
/// part of one pair is not part of the next.
fn replace_pairs(
    line: &str,
    matches: impl Fn(char, char) -> bool,
    replacement: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut replaced = String::with_capacity(line.len() + line.len() / 4);
    let mut characters = line.chars().peekable();
    while let Some(a) = characters.next() {
        match characters.next_if(|&b| matches(a, b)) {
            Some(b) => replaced.extend(replacement(a, b)),
            None => replaced.push(a),
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_stands_alone() {
        assert_eq!(
            tokenizer_13a("\"Well,\" (he) said: no!"),
            ["\"", "Well", ",", "\"", "(", "he", ")", "said", ":", "no", "!"]
        );
        assert_eq!(tokenizer_13a("it's well-known"), ["it's", "well-known"]);
    }

    #[test]
    fn numbers_stay_whole() {
        assert_eq!(tokenizer_13a("1,000.5 mg, 3-4."), ["1,000.5", "mg", ",", "3", "-", "4", "."]);
        assert_eq!(tokenizer_13a(".5 a.5 5.a"), [".", "5", "a", ".", "5", "5", ".", "a"]);
    }

    /// In `a...b` the pairs are `a.`, then `..`; the last point is set apart by the rule after.
    #[test]
    fn pairs_do_not_overlap() {
        assert_eq!(tokenizer_13a("a...b"), ["a", ".", ".", ".", "b"]);
        assert_eq!(tokenizer_13a("1..2"), ["1", ".", ".", "2"]);
    }

    #[test]
    fn lines_and_entities_are_undone() {
        assert_eq!(tokenizer_13a("treat-\nment<skipped> a\nb\n"), ["treatment", "a", "b"]);
        assert_eq!(tokenizer_13a("&amp;lt; &quot;"), ["<", "\""]);
        assert!(tokenizer_13a(" \n").is_empty());
    }

    #[test]
    fn only_ascii_punctuation_is_set_apart() {
        assert_eq!(tokenizer_13a("caf\u{e9}\u{2014}\u{ab}ja\u{bb}"), ["caf\u{e9}\u{2014}\u{ab}ja\u{bb}"]);
    }
}
