//! Rows written into memory that is there already: a cache of keys and values.

use burn::tensor::{Tensor, s};

/// `cache` with `new` in place of its rows from `at` on; in place where nobody else holds `cache`. No gradient passes.
///
/// # Shapes
/// - `cache` and the result: `[batch, capacity, width]`
/// - `new`: `[batch, rows, width]`, `at + rows` at most `capacity`
pub fn append_rows(cache: Tensor<3>, new: Tensor<3>, at: usize) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if cache.device() == burn::tensor::Device::flex() && new.device() == cache.device() {
        return crate::flex_op::apply2(fused::AppendRows { at }, cache, new);
    }
    let [_, rows, _] = new.dims();
    cache.slice_assign(s![.., at..at + rows, ..], new)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, dims, in_order, values};

    #[derive(Debug, Clone)]
    pub(super) struct AppendRows {
        pub(super) at: usize,
    }

    impl FlexOp<2> for AppendRows {
        type Saved = ();

        fn forward(&self, [cache, new]: [FlexTensor; 2]) -> (FlexTensor, ()) {
            let (mut cache, new) = (in_order(cache), in_order(new));
            let ([capacity, width], rows) = ([1, 2].map(|axis| dims(&cache)[axis]), dims(&new)[1]);
            assert!(self.at + rows <= capacity, "the cache has {capacity} rows");
            let start = cache.layout().start_offset();
            let all = &mut cache.storage_mut::<f32>()[start..];
            let parts =
                all.chunks_mut((capacity * width).max(1)).zip(values(&new).chunks((rows * width).max(1)));
            for (all, new) in parts {
                all[self.at * width..][..rows * width].copy_from_slice(new);
            }
            (cache, ())
        }

        fn backward(&self, (): (), _: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            [None, None]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn rows_are_replaced_and_no_others() {
        let device = Device::flex();
        let mut cache = Tensor::<3>::zeros([2, 4, 2], &device);
        let rows = |from: f32, count: usize| {
            let values: Vec<f32> = (0..2 * count * 2).map(|i| from + i as f32).collect();
            Tensor::<3>::from_data(TensorData::new(values, [2, count, 2]), &device)
        };
        cache = append_rows(cache, rows(1.0, 2), 0);
        let earlier = cache.clone();
        cache = append_rows(cache, rows(10.0, 1), 2);
        let values = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        let zero = [0.0; 2];
        assert_eq!(
            values(cache),
            [&[1.0, 2.0, 3.0, 4.0, 10.0, 11.0], &zero[..], &[5.0, 6.0, 7.0, 8.0, 12.0, 13.0], &zero].concat()
        );
        assert_eq!(values(earlier)[4..6], zero, "whoever holds the memory too keeps it");
    }
}
