//! What happens to a ticket between the head and the inbox: haste, small keyboards, habits.

use crate::dice::Dice;

/// How a ticket was written, which decides what noise it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Greeting and sign-off, few slips.
    Email,
    /// The bare matter in plain sentences.
    Form,
    /// Short forms, small letters, missing punctuation, many slips.
    Chat,
}

/// Rows of a keyboard; a slip hits the key beside.
const KEYBOARD: &[&str] = &["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Contractions, with and without apostrophe.
const CONTRACTIONS: &[(&str, &[&str])] = &[
    ("cannot", &["can't", "cant", "can not"]),
    ("do not", &["don't", "dont"]),
    ("does not", &["doesn't", "doesnt"]),
    ("I am", &["I'm", "im"]),
    ("it is", &["it's", "its"]),
    ("It is", &["It's", "its"]),
    ("I have", &["I've", "ive"]),
];

/// Short forms of chats.
const SHORT_FORMS: &[(&str, &[&str])] = &[
    ("please", &["pls", "plz"]),
    ("Please", &["pls", "plz"]),
    ("Thanks", &["thx", "ty"]),
    ("Thank you", &["thx", "thank u"]),
    ("you", &["u"]),
    ("and", &["&", "n"]),
    ("account", &["acc", "acct"]),
    ("password", &["pw", "pwd"]),
    ("subscription", &["sub"]),
];

/// Distorts a text as its channel would.
pub(crate) fn distort(text: &str, channel: Channel, dice: &mut Dice) -> String {
    let mut text = text.to_owned();
    let (contract, typos) = match channel {
        Channel::Email => (25, 15),
        Channel::Form => (35, 30),
        Channel::Chat => (80, 45),
    };
    if dice.chance(contract) {
        text = replace_some(&text, CONTRACTIONS, 75, dice);
    }
    if channel == Channel::Chat {
        text = replace_some(&text, SHORT_FORMS, 35, dice);
    }
    if dice.chance(typos) {
        text = mistype(&text, 8, dice);
    }
    if channel == Channel::Chat && dice.chance(75) || dice.chance(5) {
        text = text.to_lowercase();
    } else if dice.chance(2) {
        text = text.to_uppercase();
    }
    if channel == Channel::Chat && dice.chance(60) || dice.chance(5) {
        text.retain(|letter| !matches!(letter, ',' | '!' | '?' | ':'));
        // A full stop within a sum or an address stays.
        text = text.split(' ').map(|word| word.trim_end_matches('.')).collect::<Vec<_>>().join(" ");
    } else if dice.chance(8) {
        text = text.trim_end_matches(['.', '?', '!']).to_owned() + dice.pick(&["!!", "??", "...", " :("]);
    }
    text.trim().to_owned()
}

/// Replaces whole words, each occurrence in `percent` of 100 cases.
fn replace_some(text: &str, table: &[(&str, &[&str])], percent: usize, dice: &mut Dice) -> String {
    let mut text = text.to_owned();
    for (long, short) in table {
        let mut result = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(long) {
            let (before, after) = (&rest[..at], &rest[at + long.len()..]);
            let whole = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
            result.push_str(before);
            result.push_str(if whole && dice.chance(percent) { dice.pick(short) } else { long });
            rest = after;
        }
        result.push_str(rest);
        text = result;
    }
    text
}

/// Mistypes words of four letters and more, each in `percent` of 100 cases.
///
/// Shorter ones are spared: `not` and `now` carry the meaning of a ticket, and nobody could
/// tell it once they are gone.
fn mistype(text: &str, percent: usize, dice: &mut Dice) -> String {
    let words = text.split(' ').map(|word| {
        let letters: Vec<char> = word.chars().collect();
        let plain = letters.iter().all(|letter| letter.is_alphabetic() || matches!(letter, ',' | '.'));
        if letters.len() >= 4 && plain && dice.chance(percent) {
            slip(letters, dice)
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// One slip within a word: a swap, a missing, a doubled or a neighbouring letter.
fn slip(mut letters: Vec<char>, dice: &mut Dice) -> String {
    // The first letter is seldom wrong; the last may be punctuation.
    let at = dice.between(1, letters.len() - 2);
    match dice.below(4) {
        0 if letters[at + 1].is_alphabetic() => letters.swap(at, at + 1),
        1 => {
            letters.remove(at);
        }
        2 => letters.insert(at, letters[at]),
        _ => letters[at] = neighbour(letters[at], dice),
    }
    letters.into_iter().collect()
}

fn neighbour(letter: char, dice: &mut Dice) -> char {
    for row in KEYBOARD {
        if let Some(at) = row.find(letter) {
            let beside = if at + 1 == row.len() || (at > 0 && dice.chance(50)) { at - 1 } else { at + 1 };
            return row.as_bytes()[beside] as char;
        }
    }
    letter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_words_only() {
        let mut dice = Dice::new(3);
        let table: &[(&str, &[&str])] = &[("and", &["&"]), ("I am", &["I'm"])];
        assert_eq!(
            replace_some("I am brand new and I amend", table, 100, &mut dice),
            "I'm brand new & I amend"
        );
        assert_eq!(replace_some("and and", table, 0, &mut dice), "and and");
    }

    #[test]
    fn spares_short_words_and_numbers() {
        let text = "not now but 12.90 me@example.com A-12345";
        assert_eq!(mistype(text, 100, &mut Dice::new(5)), text);
    }

    #[test]
    fn a_slip_changes_a_word_by_one_letter_or_a_swap() {
        let mut dice = Dice::new(11);
        let mut changed = 0;
        for _ in 0..400 {
            let word = slip("account".chars().collect(), &mut dice);
            assert!((6..=8).contains(&word.len()) && word.starts_with('a'), "{word}");
            changed += usize::from(word != "account");
        }
        assert!(changed > 300, "a swap of the two c changes nothing, most slips do: {changed}");
    }

    #[test]
    fn neighbours_are_beside_the_key() {
        let mut dice = Dice::new(2);
        for _ in 0..50 {
            assert!("ad".contains(neighbour('s', &mut dice)));
            assert_eq!(neighbour('p', &mut dice), 'o');
            assert_eq!(neighbour('q', &mut dice), 'w');
            assert_eq!(neighbour('é', &mut dice), 'é');
        }
    }
}
