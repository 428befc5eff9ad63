//! Kullback-Leibler divergence of soft labels.

use burn::tensor::{Tensor, activation};

/// `Σ_rows Σ_classes p_t (log p_t − log p_s)`, `p = softmax(logits / temperature)`: the sum over rows, in nats, without the
/// factor `temperature²`; Hinton et al. 2015, §2 (arXiv:1503.02531).
///
/// The teacher receives no gradient.
///
/// # Shapes
/// - `student_logits`, `teacher_logits`: `[rows, classes]`
/// - returns `[1]`
pub fn forward_kl(student_logits: Tensor<2>, teacher_logits: Tensor<2>, temperature: f64) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student_logits.device()) {
        return crate::flex_op::apply2(
            fused::ForwardKl { temperature },
            student_logits,
            teacher_logits.detach(),
        );
    }
    plain(student_logits, teacher_logits.detach(), temperature)
}

/// [`forward_kl`] in burn's own operations.
fn plain(student_logits: Tensor<2>, teacher_logits: Tensor<2>, temperature: f64) -> Tensor<1> {
    let student = activation::log_softmax(student_logits / temperature, 1);
    let teacher = activation::log_softmax(teacher_logits / temperature, 1);
    (teacher.clone().exp() * (teacher - student)).sum()
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, dims, in_order, like, tensor_of, values};
    use crate::kernels::{SoftmaxRow, forward_kl, forward_kl_backward};

    #[derive(Debug, Clone)]
    pub(super) struct ForwardKl {
        pub(super) temperature: f64,
    }

    impl FlexOp<2> for ForwardKl {
        /// The logits of student and teacher, and each row's two softmaxes in short.
        type Saved = ([FlexTensor; 2], Vec<[SoftmaxRow; 2]>);

        fn forward(&self, logits: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let logits = logits.map(in_order);
            let classes = dims(&logits[0])[1];
            let loss = forward_kl(values(&logits[0]), values(&logits[1]), classes, self.temperature);
            (tensor_of(vec![loss.sum as f32], [1]), (logits, loss.rows))
        }

        fn backward(
            &self,
            ([student, teacher], rows): Self::Saved,
            grad: FlexTensor,
            _: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let scale = f64::from(values(&in_order(grad))[0]);
            let classes = dims(&student)[1];
            let temperature = self.temperature;
            let found =
                forward_kl_backward(values(&student), values(&teacher), classes, temperature, &rows, scale);
            [Some(like(&student, found)), None]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        for [rows, classes] in [[1, 2], [5, 33], [7, 5000]] {
            for temperature in [1.0, 4.0] {
                let student = (numbers(rows * classes, 1, 5.0), vec![rows, classes]);
                let teacher = numbers(rows * classes, 2, 5.0);
                compare(1e-5, &[student], &mut |x| {
                    let teacher = || {
                        Tensor::from_data(
                            burn::tensor::TensorData::new(teacher.clone(), [rows, classes]),
                            &x[0].device(),
                        )
                    };
                    [
                        forward_kl(x[0].matrix(), teacher(), temperature),
                        plain(x[0].matrix(), teacher(), temperature),
                    ]
                });
            }
        }
    }

    #[test]
    fn a_student_like_its_teacher_loses_nothing() {
        let logits = Tensor::<2>::from_data([[1.0f32, -2.0, 0.5]], &burn::tensor::Device::flex());
        assert!(forward_kl(logits.clone(), logits, 2.0).into_scalar::<f32>().abs() < 1e-6);
    }
}
