//! Answers in words.

use crate::text::whitespace::words;

/// An answer without what does not matter: case, ASCII punctuation, the articles a, an and the, and
/// how much white space there is.
///
/// The normalisation of SQuAD's evaluation script (Rajpurkar et al. 2016, §6.1, arXiv:1606.05250;
/// `normalize_answer`). It takes the sign and the decimal point from numbers, too: compare those by
/// value.
pub fn normalized(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != is_word).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = behind;
    }
    words(&kept).collect::<Vec<_>>().join(" ")
}

/// Whether two answers are the same once they are [`normalized`].
///
/// Where that leaves nothing of one of them ("The", "a", "?"), case and surrounding white space alone
/// are overlooked: else all such answers would be the same.
pub fn same_text(one: &str, other: &str) -> bool {
    let (short, other_short) = (normalized(one), normalized(other));
    if short.is_empty() || other_short.is_empty() {
        return one.trim().to_lowercase() == other.trim().to_lowercase();
    }
    short == other_short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `normalize_answer` of SQuAD's `evaluate-v1.1.py` gives.
    #[test]
    fn case_marks_articles_and_spaces_do_not_matter() {
        let cases = [
            ("The  Beatles.", "beatles"),
            (" \"an apple\", a day!", "apple day"),
            ("St. Paul's", "st pauls"),
            ("theatre", "theatre"),
            ("Panthéon-Sorbonne", "panthéonsorbonne"),
            ("the–end", "–end"),
            ("a", ""),
            ("U.S.A.", "usa"),
            ("x\ty\n", "x y"),
            ("vitamin A", "vitamin"),
        ];
        for (text, expected) in cases {
            assert_eq!(normalized(text), expected, "{text}");
        }
    }

    #[test]
    fn answers_that_are_all_punctuation_differ() {
        assert!(same_text("The wooded area.", "wooded  area"));
        assert!(!same_text("wooded area", "wooded areas"));
        assert!(!same_text("a", "the"));
        assert!(same_text(" A", "a"));
        assert!(!same_text("", "?"));
        assert!(same_text("", " "));
    }
}
