//! The direction of a student's vectors against that of its teacher's; Sanh et al. 2019, §3 (arXiv:1910.01108).

use burn::tensor::{Tensor, TensorData};

/// Added to each squared length; PyTorch's.
const EPSILON: f64 = 1e-12;

/// `Σ 1 − cos(student, teacher)` over tokens, `[1]`; the teacher receives no gradient.
///
/// # Shapes
/// - `student`, `teacher`: `[batch, seq, width]`
/// - `attention_mask`: 1 for a token, 0 for padding, which is left out; `[batch, seq]` row by row
pub fn cosine_distance(student: Tensor<3>, teacher: Tensor<3>, attention_mask: &[u8]) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student.device()) {
        let op = fused::CosineDistance { kept: attention_mask.into() };
        return crate::flex_op::apply2(op, student, teacher.detach());
    }
    plain(student, teacher.detach(), attention_mask)
}

/// [`cosine_distance`] in burn's own operations.
fn plain(student: Tensor<3>, teacher: Tensor<3>, attention_mask: &[u8]) -> Tensor<1> {
    let [batch, seq, _] = student.dims();
    let mask: Vec<f32> = attention_mask.iter().map(|&kept| f32::from(u8::from(kept != 0))).collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [batch, seq]), &student.device());
    let dot = |a: &Tensor<3>, b: &Tensor<3>| (a.clone() * b.clone()).sum_dim(2).squeeze_dim::<2>(2);
    let lengths = (dot(&student, &student) + EPSILON).sqrt() * (dot(&teacher, &teacher) + EPSILON).sqrt();
    let cosine = dot(&student, &teacher) / lengths;
    ((cosine.neg() + 1.0) * mask).sum()
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, dims, in_order, like, tensor_of, values};
    use crate::kernels::{cosine_distance, cosine_distance_backward};

    #[derive(Debug, Clone)]
    pub(super) struct CosineDistance {
        pub(super) kept: Arc<[u8]>,
    }

    impl FlexOp<2> for CosineDistance {
        /// Student and teacher.
        type Saved = [FlexTensor; 2];

        fn forward(&self, both: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let both = both.map(in_order);
            let [student, teacher] = both.each_ref().map(values);
            let sum = cosine_distance(student, teacher, &self.kept, dims(&both[0])[2]);
            (tensor_of(vec![sum as f32], [1]), both)
        }

        fn backward(&self, both: Self::Saved, grad: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            let scale = values(&in_order(grad))[0];
            let [student, teacher] = both.each_ref().map(values);
            let found = cosine_distance_backward(student, teacher, &self.kept, dims(&both[0])[2], scale);
            [Some(like(&both[0], found)), None]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        for [batch, seq, width] in [[1, 1, 2], [3, 5, 33], [4, 40, 96]] {
            let len = batch * seq * width;
            let student = (numbers(len, 1, 2.0), vec![batch * seq, width]);
            let teacher = numbers(len, 2, 2.0);
            let mask: Vec<u8> = (0..batch * seq).map(|i| u8::from(i % seq <= seq / 2)).collect();
            compare(1e-5, &[student], &mut |x| {
                let shape = [batch, seq, width];
                let student = || x[0].matrix().reshape(shape);
                let teacher =
                    || Tensor::from_data(TensorData::new(teacher.clone(), shape), &x[0].matrix().device());
                [cosine_distance(student(), teacher(), &mask), plain(student(), teacher(), &mask)]
            });
        }
    }
}
