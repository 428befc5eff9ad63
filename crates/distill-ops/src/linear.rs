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
}
