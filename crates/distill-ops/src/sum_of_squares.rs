//! The square of a vector's length, for the global gradient norm.

use burn::tensor::Tensor;

/// `Σ x²`, summed in f64 where the CPU kernels do it.
///
/// # Shapes
/// - `x`: `[n]`, without autodiff
pub fn sum_of_squares(x: Tensor<1>) -> f64 {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        let sum: Tensor<1> = crate::flex_op::apply1(fused::SumOfSquares, x);
        return sum.into_data().iter::<f64>().sum();
    }
    plain(x)
}

/// [`sum_of_squares`] in burn's own operations.
fn plain(x: Tensor<1>) -> f64 {
    (x.clone() * x).sum().into_scalar::<f64>()
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, in_order, tensor_of, values};
    use crate::kernels::sum_of_squares;

    /// The sum as an f32, and what that leaves out as a second one.
    #[derive(Debug, Clone)]
    pub(super) struct SumOfSquares;

    impl FlexOp<1> for SumOfSquares {
        type Saved = FlexTensor;

        fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
            let x = in_order(x);
            let sum = sum_of_squares(values(&x));
            let upper = sum as f32;
            let rest = if upper.is_finite() { (sum - f64::from(upper)) as f32 } else { 0.0 };
            (tensor_of(vec![upper, rest], [2]), x)
        }

        fn backward(&self, x: FlexTensor, grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            let scale = 2.0 * values(&in_order(grad))[0];
            let slope = values(&x).iter().map(|x| x * scale).collect();
            [Some(crate::flex_op::like(&x, slope))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::numbers;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn fused_plain_and_f64_agree() {
        for len in [1, 1000, 70_001] {
            let x = numbers(len, 3, 2.0);
            let expected: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let x = Tensor::<1>::from_data(TensorData::new(x, [len]), &Device::flex());
            assert!((sum_of_squares(x.clone()) - expected).abs() < 1e-7 * expected);
            assert!((plain(x) - expected).abs() < 1e-5 * expected);
        }
        let bad = Tensor::<1>::from_data([1.0f32, f32::NAN], &Device::flex());
        assert!(sum_of_squares(bad).is_nan());
        let large = Tensor::<1>::from_data([f32::MAX, 1.0], &Device::flex());
        assert!(sum_of_squares(large).is_infinite());
    }
}
