//! Hidden states of mapped layers; Jiao et al. 2020, eq. 8 (arXiv:1909.10351).

use super::layer_map::LayerMap;
use super::projection::projected;
use super::{Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use distill_models::{ForwardOptions, ModelOutput};
use distill_ops::squared_error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<HiddenStates>("hidden_states", true);

/// Mean squared error of the outputs of mapped layers, summed over the layers; a learned projection where widths differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "layers": "layer_map", "map": "layer_map", "mapping": "layer_map" }))]
pub(super) struct HiddenStates {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Which layers are compared: `uniform`, `last`, or pairs `[[student, teacher], ...]` from 0; default `uniform`.
    #[serde(default)]
    pub(super) layer_map: LayerMap,
}

impl ObjectiveConfig for HiddenStates {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.inner_teacher(KIND.name)?;
        let layers = self.layer_map.pairs(pair.student.num_hidden_layers(), teacher.num_hidden_layers())?;
        // State 0 is that of the embeddings.
        let states = layers.into_iter().map(|(student, teacher)| (student + 1, teacher + 1)).collect();
        Ok(Box::new(States { states, projection: teacher.hidden_size() != pair.student.hidden_size() }))
    }
}

/// The states that are compared: the student's, the teacher's; 0 is that of the embeddings.
#[derive(Clone, Debug)]
pub(super) struct States {
    pub(super) states: Vec<(usize, usize)>,
    pub(super) projection: bool,
}

impl Objective for States {
    fn needs(&self) -> Needs {
        let states = ForwardOptions { hidden_states: true, ..ForwardOptions::default() };
        Needs { student: states, teacher: states, projection: self.projection, ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        Unit::Cell
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let teacher = outputs.teacher_output();
        let of_pair = |&(of_student, of_teacher): &(usize, usize)| {
            let student = projected(state(outputs.student, of_student), self.projection, outputs.projection);
            let teacher = state(teacher, of_teacher);
            let width = teacher.dims()[2] as f64;
            squared_error(student, teacher) / width
        };
        let sum = self.states.iter().map(of_pair).reduce(|sum, next| sum + next);
        sum.expect("a layer map has at least one pair")
    }
}

fn state(output: &ModelOutput, number: usize) -> Tensor<3> {
    let states = output.hidden_states.as_ref().expect("the hidden states were asked for");
    states[number].clone()
}
