//! Whether a rationale speaks for another answer than the one that goes with it.

use super::choice::{chosen, mentions, same_choice};
use super::compare::Compare;
use super::expression::{same_value, value};
use super::stated_value::stated_value;

/// Rationales give results to two decimals at least.
const ROUNDING: f64 = 0.005 + 1e-9;

/// Whether a rationale speaks for another answer than the one that goes with it; none where that cannot
/// be told.
///
/// - [`Compare::Choice`]: what counts is the last sentence that names a choice (as
///   [`named`](super::named) has it). If it names the answer's choice ([`chosen`]) alone, there is no
///   contradiction; if it names others alone, there is one. Cannot be told if it names the answer and
///   others ("only a town has homes"), if no sentence names a choice, or if the answer means none.
/// - [`Compare::Expression`]: whether the value that it comes to ([`stated_value`]) differs from the
///   answer's by more than a rounding to two decimals. Cannot be told if it has no number or the answer no
///   value.
/// - [`Compare::Text`]: cannot be told.
///
/// A guide to the rows that are worth reading, not a proof: negation is not read, so that "it is not a
/// zoo" speaks for the zoo.
pub fn contradicts(rationale: &str, answer: &str, compare: Compare, choices: &[String]) -> Option<bool> {
    match compare {
        Compare::Text => None,
        Compare::Expression => {
            let (stated, answered) = (stated_value(rationale)?, value(answer)?);
            Some(!same_value(stated, answered) && (stated - answered).abs() > ROUNDING)
        }
        Compare::Choice => {
            let answered = chosen(answer, choices)?;
            let mentions = mentions(rationale, choices);
            let sentence = sentence_start(rationale, mentions.last()?.start);
            let concluding = mentions.iter().filter(|mention| mention.start >= sentence);
            let (for_it, against): (Vec<_>, Vec<_>) =
                concluding.partition(|mention| same_choice(mention.choice, answered, choices));
            match (for_it.is_empty(), against.is_empty()) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            }
        }
    }
}

/// Where the sentence begins that holds a place in the text, in bytes: behind the last full stop,
/// question or exclamation mark that has white space after it, or the last line's end.
fn sentence_start(text: &str, place: usize) -> usize {
    let before = &text[..place];
    let ends = before
        .char_indices()
        .zip(before.chars().skip(1))
        .filter(|((_, mark), next)| matches!(mark, '.' | '!' | '?') && next.is_whitespace() || *next == '\n');
    ends.last().map_or(0, |((at, mark), _)| at + mark.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rationale_that_ends_with_another_choice_contradicts() {
        let choices = ["bus depot", "beach", "train station", "bridge", "bridge"].map(str::to_owned);
        let cases = [
            ("Of the above choices, only a train station fits.", "bridge", Some(true)),
            ("Of the above choices, only a train station fits.", "train station", Some(false)),
            ("A beach? No. Only a bridge, or a train station, fits.", "bridge", None),
            ("A beach? No. Only a bridge, or a train station, fits.", "beach", Some(true)),
            ("A beach and a bus depot are wet\nA bridge fits. That is all.", "bridge", Some(false)),
            ("Beach!Bridge", "bridge", None),
            ("é! Ü. Bridge", "(d)", Some(false)),
            ("Not a beach. Only train stations fit.", "(c)", Some(false)),
            ("Not a beach. Only train stations fit.", "beach", Some(true)),
            ("So the answer is (e).", "bridge", Some(false)),
            ("Only a place with a roof fits.", "bridge", None),
            ("Only a bridge fits.", "park", None),
            ("", "bridge", None),
        ];
        for (rationale, answer, expected) in cases {
            let found = contradicts(rationale, answer, Compare::Choice, &choices);
            assert_eq!(found, expected, "{rationale} / {answer}");
        }
    }

    #[test]
    fn a_rationale_that_comes_to_another_value_contradicts() {
        let cases = [
            ("84 / 2 = 42.", "( 84.0 / 2.0 )", Some(false)),
            ("He earns $100 / 19 = $5.26 a week.", "( 100.0 / 19.0 )", Some(false)),
            ("He earns $100 / 19 = $5.20 a week.", "( 100.0 / 19.0 )", Some(true)),
            ("84 / 2 = 43.", "( 84.0 / 2.0 )", Some(true)),
            ("He has 7 * 36 pencils. 7 * 36 is 252.", "( 7.0 * 30.0 )", Some(true)),
            ("So there are 2 eggs.", "(2)", Some(false)),
            ("14 + 9 = 23. 23 - 6 = 17.", "17", Some(false)),
            ("14 + 9 = 23. 23 - 6 = 17.", "23", Some(true)),
            ("There are many eggs.", "(2)", None),
            ("So there are 2 eggs.", "many", None),
        ];
        for (rationale, answer, expected) in cases {
            assert_eq!(
                contradicts(rationale, answer, Compare::Expression, &[]),
                expected,
                "{rationale} / {answer}"
            );
        }
    }

    #[test]
    fn of_free_text_nothing_can_be_told() {
        assert_eq!(contradicts("It is a bridge.", "a tunnel", Compare::Text, &[]), None);
    }
}
