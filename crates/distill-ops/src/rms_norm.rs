//! Root mean square normalisation over the last dimension; Zhang & Sennrich 2019 (arXiv:1910.07467).

use burn::tensor::Tensor;

/// `x / √(mean(x²) + eps) · weight`.
///
/// # Shapes
/// - `x` and the result: `[..., hidden]`
/// - `weight`: `[hidden]`
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return crate::flex_op::apply2(fused::RmsNorm { eps }, x, weight);
    }
    plain(x, weight, eps)
}

/// [`rms_norm`] in burn's own operations.
fn plain<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    let square = (x.clone() * x.clone()).mean_dim(D - 1);
    x * (square + eps).sqrt().recip() * weight.unsqueeze()
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, in_order, into_values, like, values};
    use crate::kernels::{NormInput, rms_norm, rms_norm_backward};

    #[derive(Debug, Clone)]
    pub(super) struct RmsNorm {
        pub(super) eps: f64,
    }

    impl FlexOp<2> for RmsNorm {
        /// Input, weight, one over each row's root.
        type Saved = (FlexTensor, FlexTensor, Vec<f32>);

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let [x, weight] = inputs.map(in_order);
            let input = NormInput { x: values(&x), residual: None, dropout: None };
            let normed = rms_norm(input, values(&weight), self.eps);
            (like(&x, normed.y), (x, weight, normed.rstd))
        }

        fn backward(
            &self,
            (x, weight, rstd): Self::Saved,
            grad: FlexTensor,
            _: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let mut grad = into_values(grad);
            let found = rms_norm_backward(&mut grad, values(&x), &rstd, values(&weight), None);
            [Some(like(&x, grad)), Some(like(&weight, found.weight))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        for [rows, width] in [[1, 17], [3, 33], [70, 384]] {
            let x = (numbers(rows * width, 1, 2.0), vec![rows, width]);
            compare(1e-5, &[x, (numbers(width, 2, 1.0), vec![width])], &mut |x| {
                let inputs = || (x[0].matrix(), x[1].flat());
                let ((a, w), (b, v)) = (inputs(), inputs());
                [rms_norm(a, w, 1e-6), plain(b, v, 1e-6)]
            });
        }
    }
}
