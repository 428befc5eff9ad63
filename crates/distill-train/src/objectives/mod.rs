//! What a run minimises: one file an objective, one line here.

pub mod hard_labels;

use burn::tensor::{Device, Tensor};
use distill_models::ModelOutput;

/// What an objective may look at besides the model's output.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// A label for each row of the logits; −100 = ignored.
    pub labels: &'a [i64],
    /// Share of the target that is spread over all labels.
    pub label_smoothing: f64,
    /// The model's device.
    pub device: &'a Device,
}

/// A loss, by the name that recipes and logs use.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// Its name.
    pub name: &'static str,
    /// The loss *summed* over the examples, `[1]`, in nats: the loop divides by the examples of the whole step, so that
    /// 4 micro-batches of 8 give the gradient of one batch of 32.
    pub loss_sum: fn(&ModelOutput, &Targets<'_>) -> Tensor<1>,
}

/// Every objective.
pub const OBJECTIVES: &[Objective] = &[hard_labels::OBJECTIVE];
