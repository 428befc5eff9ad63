//! The affine map of every dense layer.

#[cfg(feature = "flex")]
pub(crate) mod fused;

use burn::tensor::Tensor;

use crate::Activation;

/// `x · weightᵀ + bias` over the last dimension.
///
/// The leading dimensions are flattened first: burn's batched product would materialise a weight gradient for each
/// batch row and then sum them.
///
/// # Shapes
/// - `x`: `[..., in]`
/// - `weight`: `[out, in]`, as Hugging Face stores it
/// - `bias`: `[out]`
/// - returns `[..., out]`
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    linear_onto(x, weight, Addend::bias(bias))
}

/// [`linear`] onto any addend: its sum is no pass of its own.
///
/// # Shapes
/// As [`linear`]; see [`Addend`]
pub fn linear_onto<const D: usize>(x: Tensor<D>, weight: Tensor<2>, addend: Addend<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::linear(x, None, Layout::OutIn, weight, addend);
    }
    plain_onto(x, weight, addend)
}

/// [`linear_onto`] with the weight as GPT-2 stores it.
///
/// # Shapes
/// As [`linear_onto`], but `weight`: `[in, out]`
pub fn linear_onto_in_out<const D: usize>(x: Tensor<D>, weight: Tensor<2>, addend: Addend<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::linear(x, None, Layout::InOut, weight, addend);
    }
    plain_onto(x, weight.transpose(), addend)
}

/// `x · weight + bias` over the last dimension: [`linear`] with the weight as GPT-2 stores it.
///
/// # Shapes
/// As [`linear`], but `weight`: `[in, out]`
pub fn linear_in_out<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    linear_onto_in_out(x, weight, Addend::bias(bias))
}

/// Which way a weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[out, in]`
    OutIn,
    /// `[in, out]`
    InOut,
}

/// What a product is added to.
#[derive(Debug, Clone)]
pub enum Addend<const D: usize> {
    /// Nothing.
    Nothing,
    /// `[out]`
    Bias(Tensor<1>),
    /// `[..., out]`, as the result.
    Residual(Tensor<D>),
}

impl<const D: usize> Addend<D> {
    /// A bias, if there is one.
    pub fn bias(bias: Option<Tensor<1>>) -> Self {
        bias.map_or(Self::Nothing, Self::Bias)
    }
}

/// [`linear`] of `activation(x)`: the second half of a feed-forward layer.
///
/// The activation is applied to rows on their way into the product, and its slope to rows of the gradient on their way
/// out; what it gives is never in memory as a whole.
///
/// # Shapes
/// As [`linear`].
pub fn activation_linear<const D: usize>(
    x: Tensor<D>,
    activation: Activation,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device())
        && let Some(curve) = activation.curve()
    {
        return fused::linear(x, Some(curve), Layout::OutIn, weight, Addend::bias(bias));
    }
    linear(activation.forward(x), weight, bias)
}

/// [`linear_onto`] in burn's own operations.
pub(crate) fn plain_onto<const D: usize>(x: Tensor<D>, weight: Tensor<2>, addend: Addend<D>) -> Tensor<D> {
    match addend {
        Addend::Nothing => plain(x, weight, None),
        Addend::Bias(bias) => plain(x, weight, Some(bias)),
        Addend::Residual(residual) => residual + plain(x, weight, None),
    }
}

/// [`linear`] in burn's own operations.
pub(crate) fn plain<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut shape = x.dims();
    let [outputs, inputs] = weight.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    shape[D - 1] = outputs;
    let y = x.reshape([rows, inputs]).matmul(weight.transpose());
    let y = match bias {
        Some(bias) => y + bias.reshape([1, outputs]),
        None => y,
    };
    y.reshape(shape)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn value_and_gradients_match_hand_computation() {
        let device = Device::flex().autodiff();
        let x = Tensor::<3>::from_data([[[1.0f32, 2.0], [3.0, 4.0]]], &device).require_grad();
        let weight = Tensor::<2>::from_data([[1.0f32, -1.0], [0.5, 2.0], [0.0, 1.0]], &device).require_grad();
        let bias = Tensor::<1>::from_data([0.1f32, 0.2, 0.3], &device).require_grad();
        let y = linear(x.clone(), weight.clone(), Some(bias.clone()));
        assert_eq!(y.dims(), [1, 2, 3]);
        let values = y.clone().into_data();
        let expected = [-0.9f32, 4.7, 2.3, -0.9, 9.7, 4.3];
        for (found, expected) in values.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
        let grads = y.sum().backward();
        assert_eq!(x.grad(&grads).unwrap().into_data().as_slice::<f32>().unwrap(), [1.5, 2.0, 1.5, 2.0]);
        assert_eq!(
            weight.grad(&grads).unwrap().into_data().as_slice::<f32>().unwrap(),
            [4.0, 6.0, 4.0, 6.0, 4.0, 6.0]
        );
        assert_eq!(bias.grad(&grads).unwrap().into_data().as_slice::<f32>().unwrap(), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn fused_and_plain_agree() {
        use crate::test_support::{compare, numbers};
        use crate::{Precision, autocast};
        for [rows, inputs, outputs] in [[1, 1, 1], [7, 33, 5], [130, 70, 97], [300, 384, 200]] {
            let x = (numbers(rows * inputs, 1, 1.0), vec![rows, inputs]);
            let weight = (numbers(outputs * inputs, 2, 1.0), vec![outputs, inputs]);
            let bias = (numbers(outputs, 3, 1.0), vec![outputs]);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                compare(tolerance, &[x.clone(), weight.clone(), bias.clone()], &mut |x| {
                    let fused =
                        autocast(precision, || linear(x[0].matrix(), x[1].matrix(), Some(x[2].flat())));
                    [fused, plain(x[0].matrix(), x[1].matrix(), Some(x[2].flat()))]
                });
                compare(tolerance, &[x.clone(), weight.clone()], &mut |x| {
                    let fused = autocast(precision, || linear(x[0].matrix(), x[1].matrix(), None));
                    [fused, plain(x[0].matrix(), x[1].matrix(), None)]
                });
            }
        }
    }

    #[test]
    fn sums_with_a_residual_are_those_of_a_pass_of_their_own() {
        use crate::test_support::{compare, numbers};
        use crate::{Precision, autocast};
        for [rows, inputs, outputs] in [[1, 1, 1], [2, 40, 70], [7, 33, 5], [130, 70, 97], [400, 64, 64]] {
            let x = (numbers(rows * inputs, 1, 1.0), vec![rows, inputs]);
            let weight = (numbers(outputs * inputs, 2, 1.0), vec![outputs, inputs]);
            let residual = (numbers(rows * outputs, 3, 1.0), vec![rows, outputs]);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                compare(tolerance, &[x.clone(), weight.clone(), residual.clone()], &mut |x| {
                    let fused = || linear_onto(x[0].matrix(), x[1].matrix(), Addend::Residual(x[2].matrix()));
                    let plain = x[2].matrix() + plain(x[0].matrix(), x[1].matrix(), None);
                    [autocast(precision, fused), plain]
                });
            }
        }
    }

    /// That large, its packed copy is spared where rows are few.
    #[test]
    fn a_vocabulary_is_multiplied_alike_by_few_rows_and_by_many() {
        use crate::test_support::{assert_close, numbers};
        use burn::tensor::TensorData;
        let (width, vocab) = (70, 65_000);
        let tensor = |shape: [usize; 2], seed| {
            let values = numbers(shape[0] * shape[1], seed, 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex())
        };
        let (x, table) = (tensor([9, width], 1), tensor([vocab, width], 2));
        let bias = Tensor::from_data(TensorData::new(numbers(vocab, 3, 1.0), [vocab]), &Device::flex());
        let logits = |rows: usize| {
            let y = linear(x.clone().narrow(0, 0, rows), table.clone(), Some(bias.clone()));
            y.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let few: Vec<Vec<f32>> = [1, 4].map(logits).into();
        let many = logits(9);
        for few in few {
            assert_close(&few, &many[..few.len()], 1e-5, "logits");
        }
    }

    #[test]
    fn a_weight_may_lie_the_other_way() {
        use crate::test_support::{compare, numbers};
        use crate::{Precision, autocast};
        for [rows, inputs, outputs] in [[1, 1, 1], [7, 33, 5], [130, 70, 97]] {
            let x = (numbers(rows * inputs, 1, 1.0), vec![rows, inputs]);
            let weight = (numbers(outputs * inputs, 2, 1.0), vec![inputs, outputs]);
            let bias = (numbers(outputs, 3, 1.0), vec![outputs]);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                compare(tolerance, &[x.clone(), weight.clone(), bias.clone()], &mut |x| {
                    let (a, w, b) = (x[0].matrix(), x[1].matrix(), x[2].flat());
                    let plain = plain(a.clone(), w.clone().transpose(), Some(b.clone()));
                    [autocast(precision, || linear_in_out(a, w, Some(b))), plain]
                });
            }
        }
    }

    #[test]
    fn a_weight_that_does_not_learn_passes_gradients_on() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data([[1.0f32, 2.0]], &device).require_grad();
        let weight = Tensor::<2>::from_data([[1.0f32, -1.0], [0.5, 2.0]], &device);
        let grads = linear(x.clone(), weight.clone(), None).sum().backward();
        assert_eq!(x.grad(&grads).unwrap().into_data().as_slice::<f32>().unwrap(), [1.5, 1.0]);
        assert!(weight.grad(&grads).is_none());
        // One that was computed of something that learns is no constant.
        let twice = weight.require_grad();
        let grads = linear(x, twice.clone() * 2.0, None).sum().backward();
        assert_eq!(twice.grad(&grads).unwrap().into_data().as_slice::<f32>().unwrap(), [2.0, 4.0, 2.0, 4.0]);
    }

    #[test]
    fn predictions_are_those_of_training_to_the_bit() {
        use crate::test_support::numbers;
        use burn::tensor::TensorData;
        let tensor = |shape: [usize; 2], seed| {
            let values = numbers(shape[0] * shape[1], seed, 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex())
        };
        let (x, weight) = (tensor([40, 70], 1), tensor([50, 70], 2));
        let bits = |y: Tensor<2>| y.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
        let predicted = bits(linear(x.clone(), weight.clone(), None));
        assert_eq!(bits(linear(x.clone(), weight.clone(), None)), predicted);
        let trained = linear(x.autodiff(), weight.autodiff().require_grad(), None);
        assert_eq!(bits(trained), predicted);
    }

    #[test]
    fn activations_are_those_of_a_pass_of_their_own() {
        use crate::test_support::{compare, numbers};
        use crate::{Activation, Precision, autocast};
        for activation in [Activation::Gelu, Activation::GeluNew, Activation::Silu, Activation::Relu] {
            for [rows, inputs, outputs] in [[3, 5, 4], [200, 130, 70]] {
                let x = (numbers(rows * inputs, 1, 3.0), vec![rows, inputs]);
                let weight = (numbers(outputs * inputs, 2, 1.0), vec![outputs, inputs]);
                let bias = (numbers(outputs, 3, 1.0), vec![outputs]);
                for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                    compare(tolerance, &[x.clone(), weight.clone(), bias.clone()], &mut |x| {
                        let inputs = || (x[0].matrix(), x[1].matrix(), Some(x[2].flat()));
                        let (a, w, b) = inputs();
                        let fused = autocast(precision, || activation_linear(a, activation, w, b));
                        let (a, w, b) = inputs();
                        [fused, plain(activation.forward(a), w, b)]
                    });
                }
            }
        }
    }
}
