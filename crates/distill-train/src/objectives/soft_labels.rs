//! The teacher's softened probabilities as targets; Hinton et al. 2015, §2 (arXiv:1503.02531).

use super::token_divergence::{TokenDivergence, mixture};
use super::token_rows::token_rows;
use super::{Level, Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use distill_ops::{Divergence, forward_kl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<SoftLabels>("soft_labels", true);

/// `T² · KL(softmax(teacher / T) ‖ softmax(student / T))`, mean over texts, over tokens of a masked language model, or over the tokens that a model that writes texts learns.
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
        match pair.level {
            Level::Sequence => {
                pair.any_teacher(KIND.name)?;
            }
            Level::Token => pair.same_vocabulary(KIND.name)?,
            Level::NextToken => {
                let loss = TokenDivergence {
                    divergence: Divergence::ForwardKl,
                    temperature: self.temperature,
                    factor: self.temperature.powi(2),
                    position_decay: 1.0,
                };
                return loss.build(KIND.name, pair);
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
