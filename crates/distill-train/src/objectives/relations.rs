//! Relations among queries, keys and values of one layer; MiniLM v2, Wang et al. 2021, §3 (arXiv:2012.15828).

use super::{Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use distill_models::{ForwardOptions, Layers};
use distill_ops::relation_kl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<Relations>("relations", true);

/// `⅓ Σ KL(softmax(T Tᵗ / √d) ‖ softmax(S Sᵗ / √d))` over queries, keys and values, mean over relation heads and tokens;
/// the student's last layer, one layer of the teacher, any widths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "heads": "relation_heads", "num_relation_heads": "relation_heads", "layer": "teacher_layer" }))]
pub(super) struct Relations {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Relation heads into which both widths are cut; count that divides both, default the largest one up to the teacher's attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(super) relation_heads: Option<usize>,
    /// The teacher's layer, from 0; default its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) teacher_layer: Option<usize>,
}

impl ObjectiveConfig for Relations {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.inner_teacher(KIND.name)?;
        let (narrow, wide) = (pair.student.hidden_size(), teacher.hidden_size());
        let divides = |heads: usize| narrow.is_multiple_of(heads) && wide.is_multiple_of(heads);
        let relation_heads = match self.relation_heads {
            Some(heads) if divides(heads) => heads,
            Some(heads) => {
                return Err(Unfit::at(
                    "relation_heads",
                    format!("`relation_heads` must divide both widths, {narrow} and {wide}, found {heads}"),
                    "leave it out for the largest that does",
                ));
            }
            None => (1..=teacher.num_attention_heads()).rev().find(|&heads| divides(heads)).unwrap_or(1),
        };
        let layers = teacher.num_hidden_layers();
        let teacher_layer = self.teacher_layer.unwrap_or(layers.saturating_sub(1));
        if teacher_layer >= layers {
            return Err(Unfit::at(
                "teacher_layer",
                format!("`teacher_layer` is {teacher_layer}, the teacher has {layers} layers"),
                format!("layers are numbered from 0 to {}", layers.saturating_sub(1)),
            ));
        }
        let student_layer = pair.student.num_hidden_layers().saturating_sub(1);
        Ok(Box::new(SelfRelations { relation_heads, student_layer, teacher_layer }))
    }
}

#[derive(Clone, Copy, Debug)]
struct SelfRelations {
    relation_heads: usize,
    student_layer: usize,
    teacher_layer: usize,
}

impl Objective for SelfRelations {
    fn needs(&self) -> Needs {
        let of =
            |layer| ForwardOptions { queries_keys_values: Layers::of([layer]), ..ForwardOptions::default() };
        Needs { student: of(self.student_layer), teacher: of(self.teacher_layer), ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        Unit::Token
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let [students, teachers] = outputs.queries_keys_values(self.student_layer, self.teacher_layer);
        let (mask, heads) = (outputs.targets.attention_mask, self.relation_heads);
        let of_pair = |(student, teacher)| relation_kl(student, teacher, mask, heads);
        let sum = students.into_iter().zip(teachers).map(of_pair);
        let sum = sum.reduce(|sum, next| sum + next).expect("there are queries, keys and values");
        sum / (3.0 * self.relation_heads as f64)
    }
}
