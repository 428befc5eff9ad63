//! Sums of squared differences between a student's tensors and its teacher's; Jiao et al. 2020, eqs. 7 to 9
//! (arXiv:1909.10351).

use burn::tensor::{Tensor, TensorData};

/// `Σ (student − teacher)²`, `[1]`; the teacher receives no gradient.
///
/// # Shapes
/// - `student`, `teacher`: the same
pub fn squared_error<const D: usize>(student: Tensor<D>, teacher: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student.device()) {
        return fused::squared_error(student, teacher.detach());
    }
    plain(student, teacher.detach())
}

fn plain<const D: usize>(student: Tensor<D>, teacher: Tensor<D>) -> Tensor<1> {
    let difference = student - teacher;
    (difference.clone() * difference).sum()
}

/// [`squared_error`] of attention scores, where those of padded keys, and those at or below `lowest`, count as 0.
///
/// # Shapes
/// - `student`, `teacher`: `[batch, heads, queries, keys]`
/// - `attention_mask`: 1 for a token, 0 for padding, `[batch, keys]` row by row
pub fn score_squared_error(
    student: Tensor<4>,
    teacher: Tensor<4>,
    attention_mask: &[u8],
    lowest: f32,
) -> Tensor<1> {
    let keys: Vec<f32> = attention_mask.iter().map(|&kept| f32::from(u8::from(kept != 0))).collect();
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student.device()) {
        return fused::score_squared_error(student, teacher.detach(), keys, lowest);
    }
    plain_scores(student, teacher.detach(), keys, lowest)
}

fn plain_scores(student: Tensor<4>, teacher: Tensor<4>, keys: Vec<f32>, lowest: f32) -> Tensor<1> {
    let [batch, _, _, width] = student.dims();
    let mask = Tensor::<4>::from_data(TensorData::new(keys, [batch, 1, 1, width]), &student.device());
    let counted = |scores: Tensor<4>| {
        let low = scores.clone().lower_equal_elem(lowest);
        scores.mask_fill(low, 0.0) * mask.clone()
    };
    plain(counted(student), counted(teacher))
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use crate::flex_op::{FlexOp, apply2, dims, in_order, like, tensor_of, values};
    use crate::kernels::{
        CountedScores, score_error, score_error_backward, squared_error as sum, squared_error_backward,
    };

    pub(super) fn squared_error<const D: usize>(student: Tensor<D>, teacher: Tensor<D>) -> Tensor<1> {
        apply2(SquaredError { scores: None }, student, teacher)
    }

    pub(super) fn score_squared_error(
        student: Tensor<4>,
        teacher: Tensor<4>,
        keys: Vec<f32>,
        lowest: f32,
    ) -> Tensor<1> {
        apply2(SquaredError { scores: Some((keys.into(), lowest)) }, student, teacher)
    }

    #[derive(Debug, Clone)]
    struct SquaredError {
        /// Of attention scores: the keys that count, and the lowest score that does not.
        scores: Option<(Arc<[f32]>, f32)>,
    }

    impl SquaredError {
        fn counted(&self, student: &FlexTensor) -> Option<CountedScores<'_>> {
            let (keys, lowest) = self.scores.as_ref()?;
            let shape = dims(student);
            Some(CountedScores { keys, rows_of_text: shape[1] * shape[2], width: shape[3], lowest: *lowest })
        }
    }

    impl FlexOp<2> for SquaredError {
        /// Student and teacher.
        type Saved = [FlexTensor; 2];

        fn forward(&self, both: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let both = both.map(in_order);
            let [student, teacher] = both.each_ref().map(values);
            let total = match self.counted(&both[0]) {
                Some(counted) => score_error(student, teacher, &counted),
                None => sum(student, teacher),
            };
            (tensor_of(vec![total as f32], [1]), both)
        }

        fn backward(&self, both: Self::Saved, grad: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            let scale = values(&in_order(grad))[0];
            let [student, teacher] = both.each_ref().map(values);
            let found = match self.counted(&both[0]) {
                Some(counted) => score_error_backward(student, teacher, &counted, scale),
                None => squared_error_backward(student, teacher, scale),
            };
            [Some(like(&both[0], found)), None]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    fn constant<const D: usize>(values: &[f32], shape: [usize; D], like: &Tensor<2>) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &like.device())
    }

    #[test]
    fn fused_and_plain_agree() {
        for [rows, width] in [[1, 1], [5, 33], [70, 600]] {
            let student = (numbers(rows * width, 1, 2.0), vec![rows, width]);
            let teacher = numbers(rows * width, 2, 2.0);
            compare(1e-5, &[student], &mut |x| {
                let teacher = || constant(&teacher, [rows, width], &x[0].matrix());
                [squared_error(x[0].matrix(), teacher()), plain(x[0].matrix(), teacher())]
            });
        }
    }

    #[test]
    fn fused_and_plain_scores_agree() {
        for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 4, 40, 41]] {
            let [batch, heads, queries, width] = shape;
            let len = batch * heads * queries * width;
            // Some fall below the lowest that counts.
            let student = (numbers(len, 1, 120.0), vec![batch * heads * queries, width]);
            let teacher = numbers(len, 2, 120.0);
            let mask: Vec<u8> = (0..batch * width).map(|i| u8::from(i % width <= width / 2)).collect();
            let keys: Vec<f32> = mask.iter().map(|&kept| f32::from(kept)).collect();
            compare(1e-5, &[student], &mut |x| {
                let student = || x[0].matrix().reshape(shape);
                let teacher = || constant(&teacher, shape, &x[0].matrix());
                [
                    score_squared_error(student(), teacher(), &mask, -100.0),
                    plain_scores(student(), teacher(), keys.clone(), -100.0),
                ]
            });
        }
    }
}
