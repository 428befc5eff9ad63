//! Cross entropy with the labels of the data set.

use super::{Objective, Targets};
use burn::tensor::{Int, Tensor, TensorData};
use distill_models::ModelOutput;
use distill_ops::cross_entropy;

/// The line of the registry.
pub const OBJECTIVE: Objective = Objective { name: "hard_labels", loss_sum: hard_labels };

/// Sum over the examples of the cross entropy with their labels, in nats.
///
/// With smoothing ε the target is `(1 − ε) · one_hot + ε / classes` (Szegedy et al. 2016, §7, arXiv:1512.00567).
///
/// # Shapes
/// - `output.logits`: `[rows, num_labels]`
/// - `targets.labels`: `rows` class ids, −100 skipped
/// - returns `[1]`
pub fn hard_labels(output: &ModelOutput, targets: &Targets<'_>) -> Tensor<1> {
    let labels = TensorData::new(targets.labels.to_vec(), [targets.labels.len()]);
    let labels: Tensor<1, Int> = Tensor::from_data(labels, targets.device);
    cross_entropy(output.logits.clone(), labels, targets.label_smoothing).sum
}
