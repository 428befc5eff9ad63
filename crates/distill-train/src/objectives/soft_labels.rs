//! The teacher's softened probabilities as targets; Hinton et al. 2015, §2 (arXiv:1503.02531).

use super::token_rows::token_rows;
use super::{
    Level, Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, TeacherOutput, Unfit, Unit, one,
};
use burn::tensor::{Tensor, activation};
use distill_ops::forward_kl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<SoftLabels>("soft_labels", true);

/// `T² · KL(softmax(teacher / T) ‖ softmax(student / T))`, mean over texts, or over tokens of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "T": "temperature", "tau": "temperature" }))]
pub(super) struct SoftLabels {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Divides the logits of both; number above 0, default 2.
    #[serde(default = "two")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(super) temperature: f64,
}

fn two() -> f64 {
    2.0
}

impl ObjectiveConfig for SoftLabels {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.any_teacher(KIND.name)?;
        if pair.level != Level::Sequence {
            let (student, teacher) = (pair.student.vocab_size(), teacher.vocab_size());
            if !pair.same_tokens {
                return Err(Unfit::new(
                    "`soft_labels` of a language model compares token by token, and student and teacher split texts \
                     differently",
                    "use models that share a tokenizer",
                ));
            }
            if student != teacher {
                return Err(Unfit::new(
                    format!(
                        "the teacher has {teacher} tokens in its vocabulary, the student has {student}: `soft_labels` \
                         of a language model compares them one by one"
                    ),
                    "use models that share a tokenizer and its vocabulary size",
                ));
            }
        }
        Ok(Box::new(Softened { temperature: self.temperature, level: pair.level }))
    }
}

#[derive(Clone, Copy, Debug)]
struct Softened {
    temperature: f64,
    level: Level,
}

impl Objective for Softened {
    fn needs(&self) -> Needs {
        Needs { teacher_logits: true, student_logits: true, ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        match self.level {
            Level::Sequence => Unit::Example,
            Level::Token | Level::NextToken => Unit::Token,
        }
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let student = outputs.student.logits();
        let teacher = outputs.teacher.map(|teacher| mixture(teacher, self.temperature));
        let teacher = teacher.expect("the teachers were asked for their logits");
        let (student, teacher) = match self.level {
            Level::Sequence => (student, teacher),
            Level::Token | Level::NextToken => token_rows(student, teacher, outputs.targets),
        };
        forward_kl(student, teacher, self.temperature) * self.temperature.powi(2)
    }
}

/// Logits whose softmax at this temperature is the weighted mean of the teachers' probabilities:
/// `T · log Σ w · softmax(logits / T)`.
fn mixture(teacher: &TeacherOutput, temperature: f64) -> Tensor<2> {
    if let [(_, logits)] = teacher.logits.as_slice() {
        return logits.clone();
    }
    let soft =
        |(weight, logits): &(f64, Tensor<2>)| activation::softmax(logits.clone() / temperature, 1) * *weight;
    let sum = teacher.logits.iter().map(soft).reduce(|sum, next| sum + next);
    // A probability that underflows in every teacher has no logarithm.
    let sum = sum.expect("the teachers were asked for their logits").clamp_min(f32::MIN_POSITIVE);
    sum.log() * temperature
}
