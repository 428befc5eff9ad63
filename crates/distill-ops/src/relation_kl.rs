//! Relations among the vectors of a text; MiniLM v2, Wang et al. 2021, §3 (arXiv:2012.15828).

use burn::tensor::{Tensor, TensorData};

use crate::forward_kl;

/// Added to the relation to a padded token: its probability is exactly zero.
const MASKED: f64 = -1e9;

/// `Σ KL(softmax(T Tᵗ / √d) ‖ softmax(S Sᵗ / √d))` over relation heads and tokens, `[1]`, in nats; the teacher receives no
/// gradient.
///
/// # Shapes
/// - `student`: `[batch, seq, student_width]`, `teacher`: `[batch, seq, teacher_width]`; `relation_heads` divides both
/// - `attention_mask`: 1 for a token, 0 for padding, which is neither a query nor a key; `[batch, seq]` row by row
pub fn relation_kl(
    student: Tensor<3>,
    teacher: Tensor<3>,
    attention_mask: &[u8],
    relation_heads: usize,
) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student.device()) {
        let precision = crate::precision();
        let op = fused::RelationKl { kept: attention_mask.into(), heads: relation_heads, precision };
        return crate::flex_op::apply2(op, student, teacher.detach());
    }
    plain(student, teacher.detach(), attention_mask, relation_heads)
}

/// [`relation_kl`] in burn's own operations.
fn plain(student: Tensor<3>, teacher: Tensor<3>, attention_mask: &[u8], heads: usize) -> Tensor<1> {
    let [batch, seq, _] = student.dims();
    let mask: Vec<f32> = attention_mask.iter().map(|&kept| f32::from(u8::from(kept != 0))).collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [batch, seq]), &student.device());
    let queries = mask.clone().reshape([batch, 1, seq, 1]);
    let keys = (mask.neg() + 1.0).reshape([batch, 1, 1, seq]) * MASKED;
    let relations = |x: Tensor<3>| {
        let size = x.dims()[2] / heads;
        let x = x.reshape([batch, seq, heads, size]).swap_dims(1, 2);
        let products = (x.clone() * (size as f64).sqrt().recip()).matmul(x.transpose());
        // The row of a padded query is the same on both sides: it adds nothing, and has no gradient.
        (products * queries.clone() + keys.clone()).reshape([batch * heads * seq, seq])
    };
    forward_kl(relations(student), relations(teacher), 1.0)
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;

    use crate::Precision;
    use crate::flex_op::{FlexOp, dims, in_order, into_values, like, tensor_of, values};
    use crate::kernels::{RelationShape, relation_kl, relation_kl_and_gradient, scale_all};

    #[derive(Debug, Clone)]
    pub(super) struct RelationKl {
        pub(super) kept: Arc<[u8]>,
        pub(super) heads: usize,
        pub(super) precision: Precision,
    }

    impl RelationKl {
        fn shape(&self, [student, teacher]: [&FlexTensor; 2]) -> RelationShape {
            let (of_student, of_teacher) = (dims(student), dims(teacher));
            RelationShape {
                seq: of_student[1],
                heads: self.heads,
                student: of_student[2],
                teacher: of_teacher[2],
                precision: self.precision,
            }
        }
    }

    impl FlexOp<2> for RelationKl {
        /// The student's gradient of the sum: found on the way, from scores that are not kept.
        type Saved = FlexTensor;

        fn forward(&self, both: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let both = both.map(in_order);
            let shape = self.shape(both.each_ref());
            let [student, teacher] = both.each_ref().map(values);
            let (sum, gradient) = relation_kl_and_gradient(student, teacher, &self.kept, &shape);
            (tensor_of(vec![sum as f32], [1]), like(&both[0], gradient))
        }

        fn predict(&self, both: [FlexTensor; 2]) -> FlexTensor {
            let both = both.map(in_order);
            let shape = self.shape(both.each_ref());
            let [student, teacher] = both.each_ref().map(values);
            tensor_of(vec![relation_kl(student, teacher, &self.kept, &shape) as f32], [1])
        }

        fn backward(&self, gradient: Self::Saved, grad: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            let (shape, factor) = (dims(&gradient), values(&in_order(grad))[0]);
            let mut gradient = into_values(gradient);
            scale_all(&mut gradient, factor);
            [Some(tensor_of(gradient, [shape[0], shape[1], shape[2]])), None]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        for (batch, seq, heads, of_student, of_teacher) in
            [(1, 1, 1, 1, 2), (2, 7, 2, 6, 10), (3, 41, 4, 24, 96)]
        {
            let student = (numbers(batch * seq * of_student, 1, 1.5), vec![batch * seq, of_student]);
            let teacher = numbers(batch * seq * of_teacher, 2, 1.5);
            let mask: Vec<u8> = (0..batch * seq).map(|i| u8::from(i % seq <= seq / 2)).collect();
            compare(1e-5, &[student], &mut |x| {
                let student = || x[0].matrix().reshape([batch, seq, of_student]);
                let teacher = || {
                    let data = TensorData::new(teacher.clone(), [batch, seq, of_teacher]);
                    Tensor::from_data(data, &x[0].matrix().device())
                };
                [relation_kl(student(), teacher(), &mask, heads), plain(student(), teacher(), &mask, heads)]
            });
        }
    }
}
