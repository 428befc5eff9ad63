//! Gaussian error linear units; Hendrycks & Gimpel 2016 (arXiv:1606.08415).

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::{
    flex_op::{apply1, is_flex},
    kernels::Curve,
};

/// `x · Φ(x)` with the exact error function: Hugging Face's `gelu`.
///
/// Composed of primitives because burn 0.22.1 differentiates its own `gelu` as the tanh approximation on most
/// backends; the derivative of `erf` is exact everywhere.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_flex(&x.device()) {
        return apply1(Curve::Gelu, x);
    }
    plain_gelu(x)
}

/// [`gelu`] in burn's own operations.
fn plain_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cdf = ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    x * cdf
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`: Hugging Face's `gelu_new` and `gelu_pytorch_tanh`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_flex(&x.device()) {
        return apply1(Curve::GeluTanh, x);
    }
    plain_gelu_tanh(x)
}

/// [`gelu_tanh`] in burn's own operations.
fn plain_gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044_715) * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
    x * (inner.tanh() + 1.0) * 0.5
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const X: [f32; 5] = [-3.0, -1.0, 0.0, 0.5, 2.0];

    fn value_and_gradient(f: fn(Tensor<1>) -> Tensor<1>, device: &Device) -> (Vec<f32>, Vec<f32>) {
        let x = Tensor::<1>::from_data(X, device).require_grad();
        let y = f(x.clone());
        let grads = y.clone().sum().backward();
        let read = |t: Tensor<1>| t.into_data().as_slice::<f32>().unwrap().to_vec();
        (read(y), read(x.grad(&grads).unwrap()))
    }

    fn close(found: &[f32], expected: [f64; 5]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
        }
    }

    fn devices() -> Vec<Device> {
        vec![
            Device::flex().autodiff(),
            #[cfg(feature = "ndarray")]
            crate::resolve(crate::DeviceSpec::NdArray).unwrap().autodiff(),
        ]
    }

    // Expected values: the definitions and their derivatives in f64.
    #[test]
    fn exact_gelu_and_its_gradient() {
        for device in devices() {
            let (y, g) = value_and_gradient(gelu, &device);
            close(&y, [-0.004_049_694_1, -0.158_655_253_9, 0.0, 0.345_731_230_6, 1.954_499_736_1]);
            close(&g, [-0.011_945_647_2, -0.083_315_470_6, 0.5, 0.867_495_124_7, 1.085_231_801_1]);
        }
    }

    #[test]
    fn tanh_gelu_and_its_gradient() {
        for device in devices() {
            let (y, g) = value_and_gradient(gelu_tanh, &device);
            close(&y, [-0.003_637_392_1, -0.158_808_009_4, 0.0, 0.345_714_009_8, 1.954_597_694_1]);
            close(&g, [-0.011_584_166_6, -0.082_964_083_8, 0.5, 0.867_369_903_5, 1.086_099_256_6]);
        }
    }

    #[test]
    fn fused_and_plain_agree() {
        use crate::test_support::{compare, numbers};
        for len in [1, 19, 40_000] {
            let x = [(numbers(len, 1, 5.0), vec![len])];
            compare(1e-5, &x, &mut |x| [gelu(x[0].flat()), plain_gelu(x[0].flat())]);
            compare(1e-5, &x, &mut |x| [gelu_tanh(x[0].flat()), plain_gelu_tanh(x[0].flat())]);
        }
    }
}
