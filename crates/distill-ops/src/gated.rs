//! The gated product of feed-forward layers; Shazeer 2020 (arXiv:2002.05202).

use burn::tensor::{Tensor, activation};

/// `silu(gate) · up`, the gate of Llama's feed-forward layers.
///
/// # Shapes
/// - `gate`, `up` and the result: the same
pub fn silu_gated<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&gate.device()) {
        return crate::flex_op::apply2(fused::SiluGated, gate, up);
    }
    plain(gate, up)
}

/// [`silu_gated`] in burn's own operations.
fn plain<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    activation::silu(gate) * up
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, in_order, into_values, like, values};
    use crate::kernels::{silu_gated, silu_gated_backward};

    #[derive(Debug, Clone)]
    pub(super) struct SiluGated;

    impl FlexOp<2> for SiluGated {
        /// Both inputs.
        type Saved = [FlexTensor; 2];

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
            let inputs = inputs.map(in_order);
            (like(&inputs[0], silu_gated(values(&inputs[0]), values(&inputs[1]))), inputs)
        }

        fn backward(
            &self,
            [gate, up]: Self::Saved,
            grad: FlexTensor,
            _: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let mut grad = into_values(grad);
            let dgate = silu_gated_backward(values(&gate), values(&up), &mut grad);
            [Some(like(&gate, dgate)), Some(like(&up, grad))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        for len in [1, 17, 40_000] {
            let (gate, up) = (numbers(len, 1, 4.0), numbers(len, 2, 1.0));
            compare(1e-5, &[(gate, vec![len]), (up, vec![len])], &mut |x| {
                [(silu_gated(x[0].flat(), x[1].flat())), plain(x[0].flat(), x[1].flat())]
            });
        }
    }
}
