//! Element-wise curves on flex: one pass forward, one backward.

use burn::backend::flex::FlexTensor;

use crate::flex_op::{FlexOp, in_order, into_values, like, values};
use crate::kernels::Curve;

impl FlexOp<1> for Curve {
    /// The input.
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, Self::Saved) {
        let x = in_order(x);
        (like(&x, Curve::forward(*self, values(&x))), x)
    }

    fn backward(&self, x: Self::Saved, grad: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut grad = into_values(grad);
        Curve::backward(*self, values(&x), &mut grad);
        [Some(like(&x, grad))]
    }
}
