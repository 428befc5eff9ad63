//! The direction of the last hidden states; Sanh et al. 2019, §3 (arXiv:1910.01108).

use super::projection::projected;
use super::{Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use distill_models::ForwardOptions;
use distill_ops::cosine_distance;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<Cosine>("cosine", true);

/// `1 − cos(student, teacher)` of the last hidden states, mean over tokens; a learned projection where widths differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cosine {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
}

impl ObjectiveConfig for Cosine {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.inner_teacher(KIND.name)?;
        Ok(Box::new(Directions { projection: teacher.hidden_size() != pair.student.hidden_size() }))
    }
}

#[derive(Clone, Copy, Debug)]
struct Directions {
    projection: bool,
}

impl Objective for Directions {
    fn needs(&self) -> Needs {
        let last = ForwardOptions { last_hidden_state: true, ..ForwardOptions::default() };
        Needs { student: last, teacher: last, projection: self.projection, ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        Unit::Token
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let student = last(outputs.student.last_hidden_state.as_ref());
        let student = projected(student, self.projection, outputs.projection);
        let teacher = last(outputs.teacher_output().last_hidden_state.as_ref());
        cosine_distance(student, teacher, outputs.targets.attention_mask)
    }
}

fn last(state: Option<&Tensor<3>>) -> Tensor<3> {
    state.cloned().expect("the last hidden state was asked for")
}
