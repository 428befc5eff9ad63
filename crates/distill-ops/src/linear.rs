//! The affine map of every dense layer.

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
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::linear(x, None, Layout::OutIn, weight, bias);
    }
    plain(x, weight, bias)
}

/// `x · weight + bias` over the last dimension: [`linear`] with the weight as GPT-2 stores it.
///
/// # Shapes
/// As [`linear`], but `weight`: `[in, out]`
pub fn linear_in_out<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::linear(x, None, Layout::InOut, weight, bias);
    }
    plain(x, weight.transpose(), bias)
}

/// Which way a weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[out, in]`
    OutIn,
    /// `[in, out]`
    InOut,
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
        return fused::linear(x, Some(curve), Layout::OutIn, weight, bias);
    }
    linear(activation.forward(x), weight, bias)
}

/// [`linear`] in burn's own operations.
fn plain<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
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

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use super::Layout;
    use crate::flex_op::{FlexOp, Role, apply2, apply3, dims, in_order, matrix, tensor_of, values};
    use crate::kernels::{Activated, Curve, Matrix, Onto, PackedRight, column_sums, product, product_packed};
    use crate::packed::{packed_input, packed_weight};
    use crate::precision::{Precision, precision};

    pub(super) fn linear<const D: usize>(
        x: Tensor<D>,
        curve: Option<Curve>,
        layout: Layout,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        let mut shape = x.dims();
        let [outputs, inputs] = match (layout, weight.dims()) {
            (Layout::OutIn, shape) => shape,
            (Layout::InOut, [inputs, outputs]) => [outputs, inputs],
        };
        let rows = shape[..D - 1].iter().product::<usize>();
        shape[D - 1] = outputs;
        let x = x.reshape([rows, inputs]);
        let op = Linear { precision: precision(), curve, layout };
        let y: Tensor<2> = match bias {
            Some(bias) => apply3(op, x, weight, bias),
            None => apply2(op, x, weight),
        };
        y.reshape(shape)
    }

    #[derive(Debug, Clone)]
    struct Linear {
        precision: Precision,
        /// Of the input.
        curve: Option<Curve>,
        /// Of the weight.
        layout: Layout,
    }

    /// What the backward pass needs.
    #[derive(Debug, Clone)]
    struct Saved {
        x: Input,
        weight: FlexTensor,
        /// Whether the weight stays as it is, so that it is worth keeping packed.
        frozen: bool,
        /// `[rows, inputs]`
        shape: [usize; 2],
    }

    /// The input, for the gradient of the weight.
    #[derive(Debug, Clone)]
    enum Input {
        /// Not needed: the weight does not learn.
        Dropped,
        /// As it came.
        Plain(FlexTensor),
        /// Packed while it was at hand: in bf16 half as long, and not to be fetched once more.
        Packed(Arc<PackedRight>),
    }

    impl Linear {
        /// `x · weightᵀ`, onto the bias.
        fn product(
            &self,
            x: &FlexTensor,
            weight: &FlexTensor,
            role_of_weight: Role,
            onto: Onto<'_>,
        ) -> FlexTensor {
            if self.stays_packed(role_of_weight) {
                return self.prediction(x, weight, onto);
            }
            let (x, weight) = (matrix(x), self.right(weight));
            tensor_of(product(self.precision, x, weight, onto, self.activated()), [x.rows, weight.columns])
        }

        /// [`Self::product`] of a weight that stays as it is, packed.
        fn prediction(&self, x: &FlexTensor, weight: &FlexTensor, onto: Onto<'_>) -> FlexTensor {
            let (x, weight_matrix) = (matrix(x), self.right(weight));
            let packed = packed_weight(self.precision, weight, weight_matrix);
            tensor_of(product_packed(x, &packed, onto, self.activated()), [x.rows, weight_matrix.columns])
        }

        /// Whether a weight is kept packed between steps, once for either pass: in bf16, where both copies together are
        /// as long as the weight. In f32 they would be twice as long, and packing is a smaller part of a product.
        fn stays_packed(&self, role_of_weight: Role) -> bool {
            role_of_weight == Role::Constant && self.precision == Precision::Bf16
        }

        /// The weight as the right operand of a product with the input, `[inputs, outputs]`.
        fn right<'a>(&self, weight: &'a FlexTensor) -> Matrix<'a> {
            match self.layout {
                Layout::OutIn => matrix(weight).transposed(),
                Layout::InOut => matrix(weight),
            }
        }

        fn activated(&self) -> Activated<'static> {
            self.curve.map_or(Activated::No, Activated::Left)
        }

        fn save(&self, x: FlexTensor, weight: FlexTensor, role_of_weight: Role) -> Saved {
            let shape = [0, 1].map(|axis| dims(&x)[axis]);
            let frozen = self.stays_packed(role_of_weight);
            let x = match (self.curve, role_of_weight, self.layout) {
                (None, Role::Constant, _) => Input::Dropped,
                (None, Role::Parameter, Layout::OutIn) => Input::Packed(packed_input(self.precision, &x)),
                _ => Input::Plain(x),
            };
            Saved { x, weight, frozen, shape }
        }

        /// The gradients of `x` (`grad · weight`) and of the weight (`gradᵀ · x`).
        fn gradients(&self, saved: &Saved, grad: &FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
            let (back, grad) = (self.right(&saved.weight).transposed(), matrix(grad));
            let dx = wanted[0].then(|| {
                let slope = match (self.curve, &saved.x) {
                    (Some(curve), Input::Plain(x)) => Activated::Slope(curve, matrix(x)),
                    _ => Activated::No,
                };
                let dx = if saved.frozen {
                    let packed = packed_weight(self.precision, &saved.weight, back);
                    product_packed(grad, &packed, Onto::Nothing, slope)
                } else {
                    product(self.precision, grad, back, Onto::Nothing, slope)
                };
                tensor_of(dx, saved.shape)
            });
            let dweight = wanted[1].then(|| {
                let sum = match (&saved.x, self.layout) {
                    (Input::Dropped, _) => unreachable!("the gradient of a constant is not asked for"),
                    (Input::Packed(x), _) => {
                        product_packed(grad.transposed(), x, Onto::Nothing, Activated::No)
                    }
                    (Input::Plain(x), Layout::OutIn) => {
                        let x = match self.curve {
                            Some(curve) => PackedRight::activated(self.precision, matrix(x), curve),
                            None => PackedRight::new(self.precision, matrix(x)),
                        };
                        product_packed(grad.transposed(), &x, Onto::Nothing, Activated::No)
                    }
                    (Input::Plain(x), Layout::InOut) => {
                        let x = matrix(x).transposed();
                        product(self.precision, x, grad, Onto::Nothing, Activated::No)
                    }
                };
                let stored = matrix(&saved.weight);
                tensor_of(sum, [stored.rows, stored.columns])
            });
            [dx, dweight]
        }
    }

    impl FlexOp<2> for Linear {
        type Saved = Saved;

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Saved) {
            self.record(inputs, [Role::Computed; 2])
        }

        fn record(&self, inputs: [FlexTensor; 2], roles: [Role; 2]) -> (FlexTensor, Saved) {
            let [x, weight] = inputs.map(in_order);
            let y = self.product(&x, &weight, roles[1], Onto::Nothing);
            (y, self.save(x, weight, roles[1]))
        }

        fn predict(&self, inputs: [FlexTensor; 2]) -> FlexTensor {
            let [x, weight] = inputs.map(in_order);
            self.prediction(&x, &weight, Onto::Nothing)
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
            self.gradients(&saved, &in_order(grad), wanted)
        }
    }

    impl FlexOp<3> for Linear {
        type Saved = Saved;

        fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Saved) {
            self.record(inputs, [Role::Computed; 3])
        }

        fn record(&self, inputs: [FlexTensor; 3], roles: [Role; 3]) -> (FlexTensor, Saved) {
            let [x, weight, bias] = inputs.map(in_order);
            let y = self.product(&x, &weight, roles[1], Onto::Bias(values(&bias)));
            (y, self.save(x, weight, roles[1]))
        }

        fn predict(&self, inputs: [FlexTensor; 3]) -> FlexTensor {
            let [x, weight, bias] = inputs.map(in_order);
            self.prediction(&x, &weight, Onto::Bias(values(&bias)))
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
            let grad = in_order(grad);
            let [rows, outputs] = [0, 1].map(|axis| dims(&grad)[axis]);
            let dbias = wanted[2].then(|| tensor_of(column_sums(values(&grad), rows, outputs), [outputs]));
            let [dx, dweight] = self.gradients(&saved, &grad, [wanted[0], wanted[1]]);
            [dx, dweight, dbias]
        }
    }
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
