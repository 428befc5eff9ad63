//! Layer normalisation over the last dimension; Ba et al. 2016 (arXiv:1607.06450).

use burn::tensor::Tensor;

use crate::Dropout;

/// `(x − mean) / √(variance + eps) · weight + bias`, with the biased variance.
///
/// # Shapes
/// - `x` and the result: `[..., hidden]`
/// - `weight`, `bias`: `[hidden]`
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return crate::flex_op::apply3(fused::LayerNorm { eps, dropout: None }, x, weight, bias);
    }
    plain(x, weight, bias, eps)
}

/// [`layer_norm`] of `x + residual`.
pub fn add_layer_norm<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    dropout_add_layer_norm(x, 0.0, &mut Dropout::off(), residual, weight, bias, eps)
}

/// [`layer_norm`] of `dropout(x) + residual`: the end of every half of an encoder layer.
///
/// # Shapes
/// - `x`, `residual` and the result: `[..., hidden]`
/// - `weight`, `bias`: `[hidden]`
pub fn dropout_add_layer_norm<const D: usize>(
    x: Tensor<D>,
    dropout_p: f64,
    dropout: &mut Dropout,
    residual: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        let op = fused::LayerNorm { eps, dropout: dropout.next(dropout_p) };
        return crate::flex_op::apply4(op, x, residual, weight, bias);
    }
    plain(dropout.apply(x, dropout_p) + residual, weight, bias, eps)
}

/// [`layer_norm`] in burn's own operations.
fn plain<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    let scale = (variance + eps).sqrt().recip();
    centred * scale * weight.unsqueeze() + bias.unsqueeze()
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, in_order, into_values, like, values};
    use crate::kernels::{NormInput, RandomMask, layer_norm, layer_norm_backward};

    /// Of `x`, or of `dropout(x) + residual`.
    #[derive(Debug, Clone)]
    pub(super) struct LayerNorm {
        pub(super) eps: f64,
        pub(super) dropout: Option<RandomMask>,
    }

    #[derive(Debug, Clone)]
    pub(super) struct Saved {
        /// What was normalised.
        h: FlexTensor,
        weight: FlexTensor,
        mean: Vec<f32>,
        rstd: Vec<f32>,
    }

    impl LayerNorm {
        fn forward(
            &self,
            x: FlexTensor,
            residual: Option<FlexTensor>,
            [weight, bias]: [FlexTensor; 2],
        ) -> (FlexTensor, Saved) {
            let (x, residual) = (in_order(x), residual.map(in_order));
            let (weight, bias) = (in_order(weight), in_order(bias));
            let residual = residual.as_ref().map(values);
            let input = NormInput { x: values(&x), residual, dropout: self.dropout };
            let normed = layer_norm(input, values(&weight), values(&bias), self.eps);
            let y = like(&x, normed.y);
            let h = match normed.h {
                Some(h) => like(&x, h),
                None => x,
            };
            (y, Saved { h, weight, mean: normed.mean, rstd: normed.rstd })
        }

        /// The gradients of `x`, of the residual, of weight and bias.
        fn backward(&self, saved: Saved, grad: FlexTensor) -> [FlexTensor; 4] {
            let Saved { h, weight, mean, rstd } = saved;
            let mut grad = into_values(grad);
            let found =
                layer_norm_backward(&mut grad, values(&h), &mean, &rstd, values(&weight), self.dropout);
            let dh = like(&h, grad);
            let dx = found.x.map_or_else(|| dh.clone(), |dx| like(&h, dx));
            [dx, dh, like(&weight, found.weight), like(&weight, found.bias)]
        }
    }

    impl FlexOp<3> for LayerNorm {
        type Saved = Saved;

        fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Saved) {
            self.forward(x, None, [weight, bias])
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
            let [dx, _, dweight, dbias] = self.backward(saved, grad);
            [dx, dweight, dbias].map(Some)
        }
    }

    impl FlexOp<4> for LayerNorm {
        type Saved = Saved;

        fn forward(&self, [x, residual, weight, bias]: [FlexTensor; 4]) -> (FlexTensor, Saved) {
            self.forward(x, Some(residual), [weight, bias])
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, _: [bool; 4]) -> [Option<FlexTensor>; 4] {
            self.backward(saved, grad).map(Some)
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_are_normalised_then_scaled() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1.0f32, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]], &device);
        let weight = Tensor::<1>::from_data([1.0f32, 2.0, 1.0, 0.5], &device);
        let bias = Tensor::<1>::from_data([0.0f32, 1.0, 0.0, 0.0], &device);
        let y = layer_norm(x, weight, bias, 1e-12).into_data();
        // mean 3, biased variance (4 + 1 + 0 + 9) / 4 = 3.5
        let root = 3.5f32.sqrt();
        let expected = [-2.0 / root, 1.0 - 2.0 / root, 0.0, 1.5 / root, 0.0, 1.0, 0.0, 0.0];
        for (found, expected) in y.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn gradient_matches_central_differences() {
        let device = Device::flex().autodiff();
        let values = [0.3f32, -1.2, 0.8, 2.0];
        let weight = Tensor::<1>::from_data([1.0f32, -0.5, 2.0, 0.7], &device);
        let bias = Tensor::<1>::zeros([4], &device);
        let probe = Tensor::<2>::from_data([[0.4f32, 1.0, -0.3, 0.9]], &device);
        let loss = |values: [f32; 4]| {
            let x = Tensor::<2>::from_data([values], &device).require_grad();
            let y = layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-5);
            (x, (y * probe.clone()).sum())
        };
        let (x, value) = loss(values);
        let grad = x.grad(&value.backward()).unwrap().into_data();
        for index in 0..4 {
            let (mut above, mut below) = (values, values);
            above[index] += 1e-2;
            below[index] -= 1e-2;
            let difference = (loss(above).1.into_scalar::<f32>() - loss(below).1.into_scalar::<f32>()) / 2e-2;
            assert!((grad.as_slice::<f32>().unwrap()[index] - difference).abs() < 2e-3);
        }
    }

    #[test]
    fn fused_and_plain_agree() {
        use crate::test_support::{compare, numbers};
        for [rows, width] in [[1, 17], [3, 33], [70, 384]] {
            let x = |seed| (numbers(rows * width, seed, 2.0), vec![rows, width]);
            let parameter = |seed| (numbers(width, seed, 1.0), vec![width]);
            compare(2e-5, &[x(1), parameter(2), parameter(3)], &mut |x| {
                let inputs = || (x[0].matrix(), x[1].flat(), x[2].flat());
                let ((a, w, b), (a2, w2, b2)) = (inputs(), inputs());
                [layer_norm(a, w, b, 1e-5), plain(a2, w2, b2, 1e-5)]
            });
            for p in [0.0, 0.3] {
                compare(2e-5, &[x(1), x(4), parameter(2), parameter(3)], &mut |x| {
                    let inputs = || (x[0].matrix(), x[1].matrix(), x[2].flat(), x[3].flat());
                    let masks = || Dropout::new(1, 2, 3);
                    let (a, r, w, b) = inputs();
                    let fused = dropout_add_layer_norm(a, p, &mut masks(), r, w, b, 1e-5);
                    let (a, r, w, b) = inputs();
                    // The mask in burn's own operations: what is dropped of ones.
                    let multipliers = masks().apply(a.ones_like().detach(), p);
                    [fused, plain(a * multipliers + r, w, b, 1e-5)]
                });
            }
        }
    }
}
