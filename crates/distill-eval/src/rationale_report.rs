//! What a model that explains its answers scores.

use crate::answers::{Compare, contradicts};
use crate::error::EvalError;
use crate::language_model_report::LanguageModelReport;
use serde::{Deserialize, Serialize};

/// An answer beside what is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedAnswer {
    /// The right answer.
    pub gold: String,
    /// What the model wrote; `None` where it was not asked to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// The choices with their likelihoods; none for open questions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// The rationale that the model wrote; `None` where it was not asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
}

/// A choice and how likely the model finds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// As it would be written.
    pub text: String,
    /// Log-likelihood of all of its tokens and the end of the text, nats.
    pub log_likelihood: f64,
    /// How many tokens those are.
    pub tokens: usize,
}

impl ExplainedAnswer {
    /// The likeliest choice; the first of equals.
    pub fn likeliest(&self) -> Option<&Choice> {
        self.best(|choice| choice.log_likelihood)
    }

    /// The choice of the highest likelihood a token.
    pub fn likeliest_by_token(&self) -> Option<&Choice> {
        self.best(|choice| choice.log_likelihood / choice.tokens.max(1) as f64)
    }

    fn best(&self, score: impl Fn(&Choice) -> f64) -> Option<&Choice> {
        let better = |best: Option<&Choice>, one: &Choice| best.is_none_or(|best| score(one) > score(best));
        let choose = |best, one| if better(best, one) { Some(one) } else { best };
        self.choices.iter().fold(None, choose)
    }

    /// The answer that counts: the likeliest choice, else what was written.
    pub fn answer(&self) -> &str {
        let choice = self.likeliest().map(|choice| choice.text.as_str());
        choice.or(self.written.as_deref()).unwrap_or_default()
    }

    /// Whether the answer that counts is right.
    pub fn is_right(&self, compare: Compare) -> bool {
        self.agrees(self.answer(), compare)
    }

    /// Whether the rationale speaks for another answer; `None` where that cannot be told.
    pub fn contradicts(&self, compare: Compare) -> Option<bool> {
        contradicts(self.rationale.as_deref()?, self.answer(), compare, &self.texts())
    }

    fn agrees(&self, answer: &str, compare: Compare) -> bool {
        compare.agrees(answer, &self.gold, &self.texts())
    }

    fn texts(&self) -> Vec<String> {
        self.choices.iter().map(|choice| choice.text.clone()).collect()
    }
}

/// Scores of answers, and of the rationales beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RationaleReport {
    /// Number of answers.
    pub rows: u64,
    /// Fraction of right answers: of the likeliest choices, or of what was written where there are no choices.
    pub accuracy: f64,
    /// Fraction of rows whose choice of the highest likelihood a token is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_by_token: Option<f64>,
    /// Fraction of written answers that are right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_accuracy: Option<f64>,
    /// Rationales that were written.
    #[serde(default)]
    pub rationales: u64,
    /// Fraction of them that speak for another answer than the one given, of those of which it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradictions: Option<f64>,
    /// The right labels as the model would have to write them.
    pub label_tokens: LanguageModelReport,
}

impl RationaleReport {
    /// Scores answers.
    ///
    /// # Errors
    /// [`EvalError::Empty`] if there is none.
    pub fn new(
        answers: &[ExplainedAnswer],
        compare: Compare,
        label_tokens: LanguageModelReport,
    ) -> Result<Self, EvalError> {
        if answers.is_empty() {
            return Err(EvalError::Empty);
        }
        let right = |answer: &ExplainedAnswer, text: Option<&str>| Some(answer.agrees(text?, compare));
        let told: Vec<bool> = answers.iter().filter_map(|answer| answer.contradicts(compare)).collect();
        let by_token = |answer: &ExplainedAnswer| {
            right(answer, answer.likeliest_by_token().map(|choice| choice.text.as_str()))
        };
        Ok(Self {
            rows: answers.len() as u64,
            accuracy: fraction(answers.iter().map(|answer| answer.is_right(compare))).unwrap_or_default(),
            accuracy_by_token: fraction(answers.iter().filter_map(by_token)),
            written_accuracy: fraction(
                answers.iter().filter_map(|answer| right(answer, answer.written.as_deref())),
            ),
            rationales: answers.iter().filter(|answer| answer.rationale.is_some()).count() as u64,
            contradictions: fraction(told.into_iter()),
            label_tokens,
        })
    }
}

/// The fraction of `true`; `None` of nothing.
fn fraction(values: impl Iterator<Item = bool>) -> Option<f64> {
    let (count, hits) =
        values.fold((0u64, 0u64), |(count, hits), value| (count + 1, hits + u64::from(value)));
    (count > 0).then(|| hits as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str, log_likelihood: f64, tokens: usize) -> Choice {
        Choice { text: text.to_owned(), log_likelihood, tokens }
    }

    fn tokens() -> LanguageModelReport {
        LanguageModelReport::from_sums(1, 1.0, 1)
    }

    #[test]
    fn choices_count_before_what_was_written() {
        let answer = |gold: &str, written: &str, rationale: Option<&str>| ExplainedAnswer {
            gold: gold.to_owned(),
            written: Some(written.to_owned()),
            choices: vec![choice("bank", -2.0, 1), choice("river bank", -3.0, 3), choice("sea", -9.0, 1)],
            rationale: rationale.map(str::to_owned),
        };
        let answers = [
            answer("bank", "sea", Some("Money lies in a bank.")),
            answer("river bank", "River bank.", Some("Fish live in the sea.")),
            answer("sea", "nothing", None),
        ];
        assert_eq!(answers[0].answer(), "bank");
        let report = RationaleReport::new(&answers, Compare::Choice, tokens()).unwrap();
        assert_eq!((report.rows, report.rationales), (3, 2));
        assert!((report.accuracy - 1.0 / 3.0).abs() < 1e-12);
        // A token the second choice is the likeliest everywhere.
        assert_eq!(report.accuracy_by_token, Some(1.0 / 3.0));
        assert_eq!(report.written_accuracy, Some(1.0 / 3.0));
        assert_eq!(report.contradictions, Some(0.5));
    }

    #[test]
    fn open_questions_are_told_by_what_was_written() {
        let answer = |gold: &str, written: Option<&str>| ExplainedAnswer {
            gold: gold.to_owned(),
            written: written.map(str::to_owned),
            choices: Vec::new(),
            rationale: None,
        };
        let answers = [answer("( 84.0 / 2.0 )", Some("42")), answer("3 + 4", Some("8")), answer("1", None)];
        let report = RationaleReport::new(&answers, Compare::Expression, tokens()).unwrap();
        assert_eq!((report.accuracy, report.written_accuracy), (1.0 / 3.0, Some(0.5)));
        assert_eq!((report.accuracy_by_token, report.contradictions), (None, None));
        assert!(RationaleReport::new(&[], Compare::Text, tokens()).is_err());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RationaleReport>(&json).unwrap(), report);
    }
}
