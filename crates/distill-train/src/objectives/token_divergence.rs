//! How far a student's next tokens are from its teacher's: what all divergences of writing models have in common.

use super::{Level, Needs, Objective, Outputs, Pair, TeacherOutput, Unfit, Unit};
use burn::tensor::{Tensor, activation};
use distill_data::IGNORED_LABEL;
use distill_models::Logits;
use distill_ops::{Divergence, TeacherRows, VocabularyRows, divergence_sum};
use std::sync::Arc;

/// `factor · Σ weight · divergence(softmax(student / T), softmax(teacher / T))` over the tokens that are learnt.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenDivergence {
    pub(super) divergence: Divergence,
    pub(super) temperature: f64,
    /// On the sum: T² of soft labels, else 1.
    pub(super) factor: f64,
    /// What a token counts for against the one before it in its answer.
    pub(super) position_decay: f64,
}

impl TokenDivergence {
    /// This loss between a student and a teacher of the next token.
    pub(super) fn build(self, kind: &str, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        if pair.level != Level::NextToken {
            return Err(Unfit::new(
                format!("`{kind}` needs a model that writes texts, and this task trains none"),
                "use `soft_labels`, or the tasks `language_modeling` and `seq2seq`",
            ));
        }
        pair.same_vocabulary(kind)?;
        Ok(Box::new(self))
    }
}

impl Objective for TokenDivergence {
    fn needs(&self) -> Needs {
        Needs { teacher_logits: true, student_logits: true, ..Needs::default() }
    }

    fn temperature(&self) -> Option<f64> {
        Some(self.temperature)
    }

    fn unit(&self) -> Unit {
        Unit::Label
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let targets = outputs.targets;
        let width = targets.labels.len() / targets.shape[0].max(1);
        let weights = answer_weights(targets.labels, width, self.position_decay);
        let teacher = outputs.teacher.expect("the teachers were asked for their logits");
        let teacher = match &teacher.likeliest {
            Some(tokens) => {
                let classes = tokens.at(self.temperature);
                TeacherRows::Likeliest(Arc::new(classes.expect("its temperature was asked for")))
            }
            None => TeacherRows::All(mixture_rows(teacher, self.temperature)),
        };
        let student = outputs.student.logits.rows();
        divergence_sum(student, teacher, &weights, self.divergence, self.temperature) * self.factor
    }
}

/// What each token counts for: 0 where nothing is learnt; else `decay^n`, n its number in its answer from 0, times what
/// makes the weights of an answer sum to its tokens, so that the mean over tokens stays a mean.
///
/// An answer is what stands side by side and is learnt; `labels` are those of rows of `width` tokens.
fn answer_weights(labels: &[i64], width: usize, decay: f64) -> Vec<f32> {
    let learnt = |label: &i64| *label != IGNORED_LABEL;
    let mut weights = Vec::with_capacity(labels.len());
    for row in labels.chunks(width.max(1)) {
        for answer in row.chunk_by(|one, next| learnt(one) == learnt(next)) {
            if !answer.first().is_some_and(learnt) {
                weights.extend(vec![0.0; answer.len()]);
                continue;
            }
            let powers = || (0..answer.len()).map(|n| decay.powi(i32::try_from(n).unwrap_or(i32::MAX)));
            let share = answer.len() as f64 / powers().sum::<f64>();
            // A weight of 0 would be a token that nobody computes.
            weights.extend(powers().map(|power| ((power * share) as f32).max(f32::MIN_POSITIVE)));
        }
    }
    weights
}

/// Rows whose softmax at this temperature is the weighted mean of the teachers'.
fn mixture_rows(teacher: &TeacherOutput, temperature: f64) -> VocabularyRows {
    match teacher.logits.as_slice() {
        [(_, logits)] => logits.rows(),
        _ => VocabularyRows::Logits(mixture(teacher, temperature)),
    }
}

/// Logits whose softmax at this temperature is the weighted mean of the teachers' probabilities:
/// `T · log Σ w · softmax(logits / T)`.
pub(super) fn mixture(teacher: &TeacherOutput, temperature: f64) -> Tensor<2> {
    if let [(_, logits)] = teacher.logits.as_slice() {
        return logits.tensor();
    }
    let soft =
        |(weight, logits): &(f64, Logits)| activation::softmax(logits.tensor() / temperature, 1) * *weight;
    let sum = teacher.logits.iter().map(soft).reduce(|sum, next| sum + next);
    // A probability that underflows in every teacher has no logarithm.
    let sum = sum.expect("the teachers were asked for their logits").clamp_min(f32::MIN_POSITIVE);
    sum.log() * temperature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_an_answer_fall_and_sum_to_its_tokens() {
        let labels = [-100, 5, 6, 7, -100, 8, 9, -100, -100, -100];
        assert_eq!(answer_weights(&labels, 5, 1.0), [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let found = answer_weights(&labels, 5, 0.5);
        let first = 3.0 / 1.75;
        for (found, expected) in found[1..4].iter().zip([first, first / 2.0, first / 4.0]) {
            assert!((found - expected as f32).abs() < 1e-6);
        }
        assert!((found.iter().sum::<f32>() - 5.0).abs() < 1e-5);
        // Two rows that meet are two answers.
        assert_eq!(answer_weights(&[1, 2, 3, 4], 2, 0.5), [4.0 / 3.0, 2.0 / 3.0, 4.0 / 3.0, 2.0 / 3.0]);
        assert!(answer_weights(&[1; 4000], 4000, 0.5).iter().all(|weight| *weight > 0.0));
    }
}
