//! When an answer is right.

use super::choice::{chosen, same_choice};
use super::expression::{same_value, value};
use super::plain_text::same_text;
use serde::{Deserialize, Serialize};

/// How an answer is held against the one that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// Word by word, as SQuAD does: [`same_text`].
    #[default]
    Text,
    /// Sums by their value: [`value`]. `(7 * 30)` agrees with `210`.
    Expression,
    /// By the choice that is meant: [`chosen`].
    Choice,
}

impl Compare {
    /// As recipes and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Expression => "expression",
            Self::Choice => "choice",
        }
    }

    /// Whether a prediction answers as the reference does.
    ///
    /// `choices` are those of the row; [`Compare::Choice`] alone looks at them. What has no value
    /// agrees with no expression, and what means no choice with no choice, itself included: a fault in
    /// the reference is never counted as a right answer.
    pub fn agrees(self, prediction: &str, reference: &str, choices: &[String]) -> bool {
        match self {
            Self::Text => same_text(prediction, reference),
            Self::Expression => {
                value(prediction).zip(value(reference)).is_some_and(|(one, other)| same_value(one, other))
            }
            Self::Choice => chosen(prediction, choices)
                .zip(chosen(reference, choices))
                .is_some_and(|(one, other)| same_choice(one, other, choices)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_equality() {
        let choices = ["wooded area", "zoo", "bridge", "bridge"].map(str::to_owned);
        let cases = [
            (Compare::Text, "The zoo.", "zoo", true),
            (Compare::Text, "42.0", "42", false),
            (Compare::Text, "(7 * 30)", "210", false),
            (Compare::Expression, "(7 * 30)", "210.0", true),
            (Compare::Expression, "( 10.0 * 45.0 )", "45 * 10", true),
            (Compare::Expression, "42", "-42", false),
            (Compare::Expression, "1 / 0", "1 / 0", false),
            (Compare::Expression, "42 apples", "42", false),
            (Compare::Choice, "(b)", "zoo", true),
            (Compare::Choice, "wooded areas", "wooded area", true),
            (Compare::Choice, "(d)", "(c)", true),
            (Compare::Choice, "zoo", "wooded area", false),
            (Compare::Choice, "park", "park", false),
        ];
        for (compare, prediction, reference, expected) in cases {
            assert_eq!(
                compare.agrees(prediction, reference, &choices),
                expected,
                "{compare:?}: {prediction}, {reference}"
            );
            assert_eq!(
                compare.agrees(reference, prediction, &choices),
                expected,
                "{compare:?} the other way"
            );
        }
    }

    #[test]
    fn names_are_those_that_are_written() {
        for compare in [Compare::Text, Compare::Expression, Compare::Choice] {
            let written = serde_json::to_string(&compare).unwrap();
            assert_eq!(written, format!("\"{}\"", compare.name()));
            assert_eq!(serde_json::from_str::<Compare>(&written).unwrap(), compare);
        }
        assert_eq!(Compare::default(), Compare::Text);
    }
}
