//! The affine map of every dense layer.

use burn::tensor::Tensor;

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
        return fused::linear(x, weight, bias);
    }
    plain(x, weight, bias)
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
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use crate::flex_op::{FlexOp, apply2, apply3, dims, in_order, tensor_of, values};
    use crate::kernels::{Matrix, Onto, column_sums, product};
    use crate::precision::{Precision, precision};

    pub(super) fn linear<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        let mut shape = x.dims();
        let [outputs, inputs] = weight.dims();
        let rows = shape[..D - 1].iter().product::<usize>();
        shape[D - 1] = outputs;
        let x = x.reshape([rows, inputs]);
        let op = Linear { precision: precision() };
        let y: Tensor<2> = match bias {
            Some(bias) => apply3(op, x, weight, bias),
            None => apply2(op, x, weight),
        };
        y.reshape(shape)
    }

    #[derive(Debug, Clone)]
    struct Linear {
        precision: Precision,
    }

    impl Linear {
        /// `x · weightᵀ`, onto the bias.
        fn forward(&self, x: &FlexTensor, weight: &FlexTensor, onto: Onto<'_>) -> FlexTensor {
            let (x, weight) = (matrix(x), matrix(weight));
            let y = product(self.precision, x, weight.transposed(), onto);
            tensor_of(y, [x.rows, weight.rows])
        }

        /// The gradients of `x` (`grad · weight`) and of the weight (`gradᵀ · x`).
        fn backward(
            &self,
            [x, weight]: [FlexTensor; 2],
            grad: &FlexTensor,
            wanted: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let (x, weight, grad) = (matrix(&x), matrix(&weight), matrix(grad));
            let dx = wanted[0].then(|| {
                tensor_of(product(self.precision, grad, weight, Onto::Nothing), [x.rows, x.columns])
            });
            let dweight = wanted[1].then(|| {
                let sum = product(self.precision, grad.transposed(), x, Onto::Nothing);
                tensor_of(sum, [weight.rows, weight.columns])
            });
            [dx, dweight]
        }
    }

    /// A tensor of rank 2 that is in order.
    fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
        let shape = tensor.layout().shape();
        Matrix::new(values(tensor), shape[0], shape[1])
    }

    impl FlexOp<2> for Linear {
        type Saved = [FlexTensor; 2];

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let inputs = inputs.map(in_order);
            (self.forward(&inputs[0], &inputs[1], Onto::Nothing), inputs)
        }

        fn backward(
            &self,
            saved: Self::Saved,
            grad: FlexTensor,
            wanted: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            self.backward(saved, &in_order(grad), wanted)
        }
    }

    impl FlexOp<3> for Linear {
        type Saved = [FlexTensor; 2];

        fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
            let [x, weight, bias] = inputs.map(in_order);
            (self.forward(&x, &weight, Onto::Bias(values(&bias))), [x, weight])
        }

        fn backward(
            &self,
            saved: Self::Saved,
            grad: FlexTensor,
            wanted: [bool; 3],
        ) -> [Option<FlexTensor>; 3] {
            let grad = in_order(grad);
            let [rows, outputs] = [0, 1].map(|axis| dims(&grad)[axis]);
            let dbias = wanted[2].then(|| tensor_of(column_sums(values(&grad), rows, outputs), [outputs]));
            let [dx, dweight] = self.backward(saved, &grad, [wanted[0], wanted[1]]);
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
}
