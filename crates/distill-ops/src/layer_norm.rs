//! Layer normalisation over the last dimension; Ba et al. 2016 (arXiv:1607.06450).

use burn::tensor::Tensor;

/// `(x − mean) / √(variance + eps) · weight + bias`, with the biased variance.
///
/// # Shapes
/// - `x` and the result: `[..., hidden]`
/// - `weight`, `bias`: `[hidden]`
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    let scale = (variance + eps).sqrt().recip();
    centred * scale * weight.unsqueeze() + bias.unsqueeze()
}

/// [`layer_norm`] of `x + residual`: the pair at the end of every half of an encoder layer.
pub fn add_layer_norm<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    layer_norm(x + residual, weight, bias, eps)
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
}
