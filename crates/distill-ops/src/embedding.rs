//! Table look-up.

use burn::tensor::{Int, Tensor, module};

/// The rows of `weight` with the numbers `ids`.
///
/// # Shapes
/// - `weight`: `[rows, hidden]`
/// - `ids`: `[batch, seq]`, each below `rows`
/// - returns `[batch, seq, hidden]`
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&weight.device()) {
        let shape = ids.dims();
        let ids = ids.into_data().iter::<i64>().collect();
        return crate::flex_op::apply1(fused::Embedding { ids, shape }, weight);
    }
    module::embedding(weight, ids)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, dims, in_order, tensor_of, values};
    use crate::kernels::{embedding, embedding_backward, zeros};

    #[derive(Debug, Clone)]
    pub(super) struct Embedding {
        pub(super) ids: Vec<i64>,
        pub(super) shape: [usize; 2],
    }

    impl FlexOp<1> for Embedding {
        /// The shape of the table.
        type Saved = [usize; 2];

        fn forward(&self, [weight]: [FlexTensor; 1]) -> (FlexTensor, Self::Saved) {
            let weight = in_order(weight);
            let [rows, width] = [0, 1].map(|axis| dims(&weight)[axis]);
            let [batch, seq] = self.shape;
            let found = embedding(values(&weight), width, &self.ids);
            (tensor_of(found, [batch, seq, width]), [rows, width])
        }

        fn backward(
            &self,
            [rows, width]: Self::Saved,
            grad: FlexTensor,
            _: [bool; 1],
        ) -> [Option<FlexTensor>; 1] {
            let mut table = zeros(rows * width);
            embedding_backward(values(&in_order(grad)), width, &self.ids, &mut table);
            [Some(tensor_of(table, [rows, width]))]
        }
    }
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

    #[test]
    fn fused_and_plain_agree() {
        use crate::test_support::{compare, numbers};
        use burn::tensor::TensorData;
        for [rows, width, batch, seq] in [[1, 1, 1, 1], [11, 33, 3, 7], [500, 64, 16, 40]] {
            let ids: Vec<i64> = (0..batch * seq).map(|i| (i * i % rows) as i64).collect();
            compare(1e-5, &[(numbers(rows * width, 1, 1.0), vec![rows, width])], &mut |x| {
                let ids = || {
                    let data = TensorData::new(ids.clone(), [batch, seq]);
                    Tensor::<2, Int>::from_data(data, &x[0].device())
                };
                [embedding(x[0].matrix(), ids()), module::embedding(x[0].matrix(), ids())]
            });
        }
    }
}
