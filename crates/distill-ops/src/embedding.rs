//! Table look-up.

use burn::tensor::{Int, Tensor, module};

/// The rows of `weight` with the numbers `ids`.
///
/// # Shapes
/// - `weight`: `[rows, hidden]`
/// - `ids`: `[batch, seq]`, each below `rows`
/// - returns `[batch, seq, hidden]`
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(weight, ids)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn gradients_add_up_over_repeated_rows() {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::from_data([[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &device).require_grad();
        let ids = Tensor::<2, Int>::from_data([[2, 0, 2]], &device);
        let y = embedding(weight.clone(), ids);
        assert_eq!(y.clone().into_data().as_slice::<f32>().unwrap(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
        let grad = weight.grad(&y.sum().backward()).unwrap().into_data();
        assert_eq!(grad.as_slice::<f32>().unwrap(), [1.0, 1.0, 0.0, 0.0, 2.0, 2.0]);
    }
}
