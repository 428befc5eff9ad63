//! Which of several choices a text means.

use super::plain_text::same_text;
use crate::text::porter_stemmer::stem;

/// The choice that a free text means, counted from 0; none if it means none of them or several.
///
/// In this order:
/// 1. the text is a choice ([`same_text`]); of equal choices the first;
/// 2. it begins with a choice's letter, `(b)`, `b)`, `b.` or `b:`, or is nothing but that letter; if
///    the rest begins by naming another choice, none is meant;
/// 3. it names one choice and no other ([`named`]);
/// 4. it names none and its last word is a capital letter: "The answer is B."
///
/// Negation is not read: "not the zoo" names the zoo.
pub fn chosen(text: &str, choices: &[String]) -> Option<usize> {
    if let Some(exact) = choices.iter().position(|choice| same_text(choice, text)) {
        return Some(exact);
    }
    if let Some((letter, rest)) = leading_letter(text, choices.len()) {
        let first = named(rest, choices).first().copied();
        return first.is_none_or(|first| same_choice(first, letter, choices)).then_some(letter);
    }
    let named = named(text, choices);
    match named.first() {
        Some(&first) => named.iter().all(|&choice| same_choice(choice, first, choices)).then_some(first),
        None => last_letter(text, choices.len()),
    }
}

/// The choices that a text names, in its order, counted from 0.
///
/// A choice is named by all of its words in a row, whatever their case, punctuation or ending
/// ("wooded areas" names "wooded area"; words of more than three letters are compared by their Porter
/// stems), or by its letter in brackets, `(b)`. From left to right, the longest choice that fits wins,
/// so that "body of water" is not "water" as well; of equally long ones the one that fits letter by
/// letter; if none does and different ones are left, none is named.
pub fn named(text: &str, choices: &[String]) -> Vec<usize> {
    mentions(text, choices).into_iter().map(|mention| mention.choice).collect()
}

/// A place where a text names a choice.
pub(super) struct Mention {
    pub(super) choice: usize,
    /// Where its first word begins, in bytes.
    pub(super) start: usize,
}

/// What [`named`] finds, and where.
pub(super) fn mentions(text: &str, choices: &[String]) -> Vec<Mention> {
    let choices: Vec<Vec<Word>> = choices.iter().map(|choice| words(choice)).collect();
    let text = words(text);
    let mut mentions = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (choice, length) = starting_with(&text[at..], &choices);
        mentions.extend(choice.map(|choice| Mention { choice, start: text[at].start }));
        at += length;
    }
    mentions
}

/// Whether two of the choices are the same, or have the same text.
pub(super) fn same_choice(one: usize, other: usize, choices: &[String]) -> bool {
    one == other || same_text(&choices[one], &choices[other])
}

struct Word {
    lower: String,
    stem: String,
    /// In bytes.
    start: usize,
    /// Whether it stands in brackets alone.
    bracketed: bool,
}

/// Runs of letters and digits.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut end = 0;
    while let Some(start) = text[end..].find(char::is_alphanumeric).map(|offset| end + offset) {
        let length = text[start..].find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len() - start);
        end = start + length;
        let lower = text[start..end].to_lowercase();
        let stem = if lower.chars().count() > 3 { stem(&lower) } else { lower.clone() };
        let bracketed = text[..start].ends_with('(') && text[end..].starts_with(')');
        words.push(Word { lower, stem, start, bracketed });
    }
    words
}

/// The choice that the words begin with, and how many of them to go on by.
fn starting_with(text: &[Word], choices: &[Vec<Word>]) -> (Option<usize>, usize) {
    let fits = |choice: &[Word]| {
        choice.len() <= text.len() && choice.iter().zip(text).all(|(one, other)| one.stem == other.stem)
    };
    let is_exact =
        |choice: usize| choices[choice].iter().zip(text).all(|(one, other)| one.lower == other.lower);
    let fitting: Vec<usize> =
        (0..choices.len()).filter(|&choice| !choices[choice].is_empty() && fits(&choices[choice])).collect();
    let longest = fitting.iter().map(|&choice| choices[choice].len()).max();
    let Some(length) = longest else {
        return (if text[0].bracketed { letter(&text[0].lower, choices.len()) } else { None }, 1);
    };
    let longest = || fitting.iter().copied().filter(|&choice| choices[choice].len() == length);
    let exact = longest().find(|&choice| is_exact(choice));
    let alike = |one: usize, other: usize| {
        choices[one].iter().zip(&choices[other]).all(|(one, other)| one.lower == other.lower)
    };
    let only = || longest().next().filter(|&first| longest().all(|choice| alike(choice, first)));
    (exact.or_else(only), length)
}

/// The choice of a letter.
fn letter(text: &str, choices: usize) -> Option<usize> {
    let [letter @ (b'a'..=b'z' | b'A'..=b'Z')] = text.as_bytes() else { return None };
    let index = usize::from(letter.to_ascii_lowercase() - b'a');
    (index < choices).then_some(index)
}

/// The choice whose letter a text begins with, and what follows the letter.
fn leading_letter(text: &str, choices: usize) -> Option<(usize, &str)> {
    let text = text.trim();
    let (in_brackets, rest) = match text.strip_prefix('(') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (first, rest) = rest.split_at_checked(1)?;
    let letter = letter(first, choices)?;
    match rest.chars().next() {
        Some(')') => Some((letter, &rest[1..])),
        Some('.' | ':') if !in_brackets => Some((letter, &rest[1..])),
        None if !in_brackets => Some((letter, rest)),
        _ => None,
    }
}

/// The choice whose letter, a capital, is the last word.
fn last_letter(text: &str, choices: usize) -> Option<usize> {
    let last = text.split_whitespace().next_back()?;
    let last = last.trim_matches(|c: char| c.is_ascii_punctuation());
    if last.chars().all(char::is_uppercase) { letter(last, choices) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_text_means_a_choice_by_itself_by_letter_or_by_naming_it() {
        let places = choices(&["british columbia", "body of water", "wooded area", "pay debts", "zoo"]);
        let cases = [
            ("wooded area", Some(2)),
            ("The Wooded Area.", Some(2)),
            ("(b)", Some(1)),
            ("B", Some(1)),
            ("b", Some(1)),
            ("b.", Some(1)),
            ("b) body of water", Some(1)),
            ("(b) body of water", Some(1)),
            ("B: water", Some(1)),
            ("(b) zoo", None),
            ("(b) a body of water, not the zoo", Some(1)),
            ("(b", None),
            ("(z)", None),
            ("The answer is the zoo.", Some(4)),
            ("So the answer is (e).", Some(4)),
            ("So the answer is (e), zoo.", Some(4)),
            ("The answer is E.", Some(4)),
            ("The answer is e.", None),
            ("the zoo or a wooded area", None),
            ("zoo, zoo, zoo", Some(4)),
            ("wooded areas", Some(2)),
            ("zoology", None),
            ("a zoo-keeper", Some(4)),
            ("water", None),
            ("", None),
            ("?", None),
            ("é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(chosen(text, &places), expected, "{text}");
        }
        assert_eq!(chosen("zoo", &[]), None);
    }

    #[test]
    fn the_longest_choice_is_the_one_that_is_named() {
        let places = choices(&["water", "body of water", "body"]);
        assert_eq!(named("The body of water holds water and a body.", &places), [1, 0, 2]);
        assert_eq!(named("a body of", &places), [2]);
        assert_eq!(chosen("Body of water!", &places), Some(1));
        assert_eq!(chosen("a body of water", &places), Some(1));
    }

    #[test]
    fn endings_do_not_matter_unless_they_tell_choices_apart() {
        let plays = choices(&["play tag", "breathe"]);
        assert_eq!(named("Children who are playing tag are breathing.", &plays), [0, 1]);
        let numbers = choices(&["compete", "competes"]);
        assert_eq!(named("who competes", &numbers), [1]);
        assert_eq!(named("who compete", &numbers), [0]);
        assert_eq!(named("competing", &numbers), Vec::<usize>::new());
    }

    #[test]
    fn equal_choices_are_one() {
        let places = choices(&["beach", "bridge", "Bridge"]);
        assert_eq!(chosen("under a bridge", &places), Some(1));
        assert_eq!(chosen("a bridge (c)", &places), Some(1));
        assert_eq!(named("bridges", &places), [1]);
    }

    #[test]
    fn choices_without_a_word_are_named_by_letter_alone() {
        let signs = choices(&["+", "-", "="]);
        assert_eq!(chosen("-", &signs), Some(1));
        assert_eq!(chosen("the sign (c)", &signs), Some(2));
        assert_eq!(named("+ or -", &signs), Vec::<usize>::new());
    }
}
