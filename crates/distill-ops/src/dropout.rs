//! Dropout whose masks are a pure function of where in the training they are drawn; Srivastava et al. 2014.
//!
//! There is no generator with a hidden state: a resumed run draws the masks that the unbroken one would have drawn, on
//! every device and with any number of threads.

use crate::kernels::RandomMask;
use crate::philox::{halves, philox};
use burn::tensor::{Tensor, TensorData};

/// The dropout of one forward pass: off, or the masks of one (seed, step, micro-step), one after the other.
#[derive(Debug, Clone)]
pub struct Dropout {
    stream: Option<Stream>,
}

#[derive(Debug, Clone)]
struct Stream {
    /// Derived from seed, step and micro-step.
    key: [u32; 2],
    /// How many masks this pass has drawn.
    operation: u64,
}

impl Dropout {
    /// No dropout: evaluation, or a teacher.
    pub fn off() -> Self {
        Self { stream: None }
    }

    /// The masks of micro-step `micro_step` of step `step` in the run with this `seed`.
    pub fn new(seed: u64, step: u64, micro_step: u64) -> Self {
        let ([step_low, step_high], [micro_low, micro_high]) = (halves(step), halves(micro_step));
        let [a, b, _, _] = philox([step_low, step_high, micro_low, micro_high], halves(seed));
        Self { stream: Some(Stream { key: [a, b], operation: 0 }) }
    }

    /// Sets each element to 0 with probability `p`, and divides the others by `1 − p`.
    ///
    /// Takes the next operation number whatever `p` is, so that switching one dropout off leaves the others' masks as
    /// they were.
    pub fn apply<const D: usize>(&mut self, x: Tensor<D>, p: f64) -> Tensor<D> {
        let Some(mask) = self.next(p) else { return x };
        #[cfg(feature = "flex")]
        if crate::flex_op::is_flex(&x.device()) {
            return crate::flex_op::apply1(fused::DropoutOp(mask), x);
        }
        let shape = x.dims();
        let multipliers = mask.values(shape.iter().product());
        let multipliers = Tensor::<D>::from_data(TensorData::new(multipliers, shape), &x.device());
        x * multipliers
    }

    /// As [`apply`](Self::apply), for rows that an operation numbers for itself (see
    /// [`row_start`](crate::kernels::row_start)).
    pub(crate) fn apply_by_rows<const D: usize>(&mut self, x: Tensor<D>, p: f64) -> Tensor<D> {
        let Some(mask) = self.next(p) else { return x };
        let shape = x.dims();
        let columns = shape[D - 1];
        let multipliers = mask.values_by_rows(shape[..D - 1].iter().product(), columns);
        let multipliers = Tensor::<D>::from_data(TensorData::new(multipliers, shape), &x.device());
        x * multipliers
    }

    /// The mask of the next operation, which takes its number in any case; none where nothing is dropped.
    pub(crate) fn next(&mut self, p: f64) -> Option<RandomMask> {
        let stream = self.stream.as_mut()?;
        let operation = stream.operation;
        stream.operation += 1;
        (p > 0.0).then(|| RandomMask::new(stream.key, operation, p))
    }
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, in_order, into_values, like, values};
    use crate::kernels::{RandomMask, dropout, dropout_in_place};

    /// Nothing is saved: the mask is drawn again.
    #[derive(Debug, Clone)]
    pub(super) struct DropoutOp(pub(super) RandomMask);

    impl FlexOp<1> for DropoutOp {
        type Saved = ();

        fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
            let x = in_order(x);
            (like(&x, dropout(values(&x), self.0)), ())
        }

        fn backward(&self, (): (), grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            let grad = in_order(grad);
            let shape = grad.layout().shape().clone();
            let mut grad = into_values(grad);
            dropout_in_place(&mut grad, self.0);
            [Some(FlexTensor::from_data(burn::tensor::TensorData::new(grad, shape)))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u64, step: u64, micro_step: u64) -> [u32; 2] {
        Dropout::new(seed, step, micro_step).stream.unwrap().key
    }

    fn mask(key: [u32; 2], operation: u64, len: usize, p: f64) -> Vec<f32> {
        RandomMask::new(key, operation, p).values(len)
    }

    #[test]
    fn the_share_of_zeros_is_p() {
        let len = 400_003;
        for p in [0.1, 0.5, 0.9] {
            let mask = mask(key(1, 2, 3), 0, len, p);
            let zeros = mask.iter().filter(|v| **v == 0.0).count() as f64 / len as f64;
            // four standard deviations
            assert!((zeros - p).abs() < 4.0 * (p * (1.0 - p) / len as f64).sqrt(), "{p}: {zeros}");
            let scale = (1.0 / (1.0 - p)) as f32;
            assert!(mask.iter().all(|v| *v == 0.0 || *v == scale));
        }
        assert!(mask(key(1, 2, 3), 0, 100, 1.0).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn masks_depend_on_each_coordinate_and_on_nothing_else() {
        let base = mask(key(1, 2, 3), 4, 1000, 0.5);
        assert_eq!(base, mask(key(1, 2, 3), 4, 1000, 0.5));
        assert_eq!(base[..500], mask(key(1, 2, 3), 4, 500, 0.5));
        for (other, operation) in
            [(key(9, 2, 3), 4), (key(1, 9, 3), 4), (key(1, 2, 9), 4), (key(1, 2, 3), 9), (key(1, 3, 2), 4)]
        {
            assert_ne!(base, mask(other, operation, 1000, 0.5));
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn off_is_the_identity_and_each_operation_draws_anew() {
        let device = burn::tensor::Device::flex();
        let x = Tensor::<2>::ones([20, 20], &device);
        let read = |t: Tensor<2>| t.into_data().as_slice::<f32>().unwrap().to_vec();
        assert_eq!(read(Dropout::off().apply(x.clone(), 0.5)), [1.0; 400]);
        let mut dropout = Dropout::new(1, 1, 0);
        let (first, second) = (read(dropout.apply(x.clone(), 0.5)), read(dropout.apply(x.clone(), 0.5)));
        assert_ne!(first, second);
        let mut again = Dropout::new(1, 1, 0);
        assert_eq!(read(again.apply(x.clone(), 0.0)), [1.0; 400]);
        assert_eq!(read(again.apply(x, 0.5)), second);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn values_and_gradients_are_those_of_the_mask() {
        use crate::test_support::{compare, numbers};
        for len in [1, 70, 40_003] {
            let multipliers = mask(key(1, 2, 3), 0, len, 0.3);
            compare(1e-6, &[(numbers(len, 1, 1.0), vec![len])], &mut |x| {
                let data = TensorData::new(multipliers.clone(), [len]);
                let multipliers = Tensor::<1>::from_data(data, &x[0].flat().device());
                [Dropout::new(1, 2, 3).apply(x[0].flat(), 0.3), x[0].flat() * multipliers]
            });
        }
    }
}
