//! Attention scores of mapped layers; Jiao et al. 2020, eq. 7 (arXiv:1909.10351).

use super::layer_map::LayerMap;
use super::{Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use distill_models::{ForwardOptions, Layers};
use distill_ops::score_squared_error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<Attention>("attention", true);

/// Scores up to here count as 0, as in the reference.
const LOWEST: f32 = -100.0;

/// Mean squared error of the attention scores before the softmax, summed over mapped layers; scores of padding, and those
/// at or below −100, count as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "layers": "layer_map", "map": "layer_map", "mapping": "layer_map" }))]
pub(super) struct Attention {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Which layers are compared: `uniform`, `last`, or pairs `[[student, teacher], ...]` from 0; default `uniform`.
    #[serde(default)]
    pub(super) layer_map: LayerMap,
}

impl ObjectiveConfig for Attention {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.inner_teacher(KIND.name)?;
        let (of_student, of_teacher) = (pair.student.num_attention_heads(), teacher.num_attention_heads());
        if of_student != of_teacher {
            return Err(Unfit::new(
                format!(
                    "`attention` compares head by head: the student has {of_student} attention heads, the teacher \
                     {of_teacher}"
                ),
                format!(
                    "give the student {of_teacher} heads, or use `relations`, which need no equal number"
                ),
            ));
        }
        let pairs = self.layer_map.pairs(pair.student.num_hidden_layers(), teacher.num_hidden_layers())?;
        Ok(Box::new(ScoreMaps { pairs }))
    }
}

#[derive(Clone, Debug)]
struct ScoreMaps {
    pairs: Vec<(usize, usize)>,
}

impl Objective for ScoreMaps {
    fn needs(&self) -> Needs {
        let scores =
            |layers: Layers| ForwardOptions { attention_scores: layers, ..ForwardOptions::default() };
        Needs {
            student: scores(Layers::of(self.pairs.iter().map(|pair| pair.0))),
            teacher: scores(Layers::of(self.pairs.iter().map(|pair| pair.1))),
            ..Needs::default()
        }
    }

    fn unit(&self) -> Unit {
        Unit::CellPair
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let of_pair = |&(of_student, of_teacher): &(usize, usize)| {
            let [student, teacher] = outputs.scores(of_student, of_teacher);
            let heads = student.dims()[1] as f64;
            score_squared_error(student, teacher, outputs.targets.attention_mask, LOWEST) / heads
        };
        let sum = self.pairs.iter().map(of_pair).reduce(|sum, next| sum + next);
        sum.expect("a layer map has at least one pair")
    }
}
