//! What Python calls whitespace, since the reference implementations split and strip with it.

/// Whether Python's `str.isspace` holds: Unicode's whitespace and the four ASCII separators.
fn is_whitespace(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The words between whitespace; Python's `str.split`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_whitespace).filter(|word| !word.is_empty())
}

/// The text without whitespace around it; Python's `str.strip`.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_whitespace)
}

/// The text without whitespace behind it; Python's `str.rstrip`.
pub fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_whitespace)
}

/// The characters that are not whitespace.
pub fn visible_chars(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|&c| !is_whitespace(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_separators_and_wide_spaces_part_words() {
        let text = "\u{1c} one\u{1f}two\u{3000}\n three\u{a0}";
        assert_eq!(words(text).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(trim(text), "one\u{1f}two\u{3000}\n three");
        assert_eq!(trim_end(" one\u{1c}"), " one");
        assert_eq!(visible_chars(text).collect::<String>(), "onetwothree");
    }

    #[test]
    fn a_zero_width_space_is_part_of_a_word() {
        assert_eq!(words("one\u{200b}two").count(), 1);
    }
}
