//! Cross entropy with the labels of the data set.

use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_ops::cross_entropy;

/// Sum over the examples of the cross entropy with their labels, in nats.
///
/// With smoothing ε the target is `(1 − ε) · one_hot + ε / classes` (Szegedy et al. 2016, §7, arXiv:1512.00567).
/// A sum, not a mean: the caller divides by the examples of the whole step, so that 4 micro-batches of 8 give the
/// gradient of one batch of 32.
///
/// # Shapes
/// - `logits`: `[batch, num_labels]`
/// - `labels`: `batch` class ids, −100 skipped
/// - returns `[1]`
pub fn hard_labels(logits: Tensor<2>, labels: &[i64], label_smoothing: f64, device: &Device) -> Tensor<1> {
    let labels: Tensor<1, Int> = Tensor::from_data(TensorData::new(labels.to_vec(), [labels.len()]), device);
    cross_entropy(logits, labels, label_smoothing).sum
}
