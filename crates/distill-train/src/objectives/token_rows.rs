//! Rows of token-level tensors without those of padding.

use super::Targets;
use burn::tensor::{Int, Tensor, TensorData};

/// The rows of `[batch · seq, width]` that belong to tokens, of both tensors.
pub(super) fn token_rows(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: &Targets<'_>,
) -> (Tensor<2>, Tensor<2>) {
    let kept: Vec<i64> =
        (0i64..).zip(targets.attention_mask).filter(|(_, kept)| **kept != 0).map(|(row, _)| row).collect();
    if kept.len() == targets.attention_mask.len() {
        return (student, teacher);
    }
    let count = kept.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), targets.device);
    (student.select(0, rows.clone()), teacher.select(0, rows))
}
