//! A dense layer with a low-rank adapter; Hu et al. 2021, §4.1 (arXiv:2106.09685).
//!
//! The adapter's second product goes on with the sums of the layer's own while their rows are in the cache, and so does
//! its part of the input's gradient: neither is ever in memory by itself, nor a pass to add it.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::linear::Layout;
use crate::linear::{Addend, plain, plain_onto};

/// The factors of an adapter, and what their product is multiplied by.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// `[r, in]`
    pub a: Tensor<2>,
    /// `[out, r]`
    pub b: Tensor<2>,
    /// `alpha / r`
    pub scaling: f64,
}

/// `x · weightᵀ + scaling · (x · aᵀ) · bᵀ`, onto `addend`, over the last dimension.
///
/// # Shapes
/// - `x`: `[..., in]`
/// - `weight`: `[out, in]`
/// - returns `[..., out]`
pub fn low_rank_linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    addend: Addend<D>,
    adapter: LowRank,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::low_rank_linear(x, Layout::OutIn, weight, addend, adapter);
    }
    plain_low_rank(x, weight, addend, adapter)
}

/// [`low_rank_linear`] with the weight as GPT-2 stores it.
///
/// # Shapes
/// As [`low_rank_linear`], but `weight`: `[in, out]`
pub fn low_rank_linear_in_out<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    addend: Addend<D>,
    adapter: LowRank,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return fused::low_rank_linear(x, Layout::InOut, weight, addend, adapter);
    }
    plain_low_rank(x, weight.transpose(), addend, adapter)
}

/// [`low_rank_linear`] in burn's own operations.
fn plain_low_rank<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    addend: Addend<D>,
    LowRank { a, b, scaling }: LowRank,
) -> Tensor<D> {
    let low_rank = plain(plain(x.clone(), a, None) * scaling, b, None);
    plain_onto(x, weight, addend) + low_rank
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use super::LowRank;
    use crate::flex_op::{FlexOp, Role, apply4, apply5, dims, in_order, matrix, tensor_of};
    use crate::kernels::{Activated, Matrix, Onto, PackedRight, Term, product, product_packed, scale_all};
    use crate::linear::fused::{Linear, Saved as SavedLinear, Third, flattened};
    use crate::linear::{Addend, Layout};
    use crate::packed::{packed_input, packed_weight};
    use crate::precision::precision;

    pub(super) fn low_rank_linear<const D: usize>(
        x: Tensor<D>,
        layout: Layout,
        weight: Tensor<2>,
        addend: Addend<D>,
        LowRank { a, b, scaling }: LowRank,
    ) -> Tensor<D> {
        let (x, shape) = flattened(x, layout, &weight);
        let op = |third| LowRankLinear {
            linear: Linear { precision: precision(), curve: None, layout, third },
            scaling: scaling as f32,
        };
        let y: Tensor<2> = match addend {
            Addend::Nothing => apply4(op(Third::Bias), x, weight, a, b),
            Addend::Bias(bias) => apply5(op(Third::Bias), x, bias, [weight, a, b]),
            Addend::Residual(residual) => {
                let rows = residual.reshape([x.dims()[0], shape[D - 1]]);
                apply5(op(Third::Residual), x, rows, [weight, a, b])
            }
        };
        y.reshape(shape)
    }

    #[derive(Debug, Clone)]
    struct LowRankLinear {
        linear: Linear,
        scaling: f32,
    }

    /// What the backward pass needs.
    #[derive(Debug, Clone)]
    struct Saved {
        linear: SavedLinear,
        /// For the gradient of `a`, unless that stays as it is.
        x: Option<Arc<PackedRight>>,
        /// `scaling · x · aᵀ`, `[rows, r]`.
        narrow: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
    }

    /// The inputs besides what they are added to.
    struct Inputs {
        x: FlexTensor,
        weight: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
    }

    /// What they are to the backward pass.
    struct Roles {
        weight: Role,
        a: Role,
    }

    /// Which gradients are wanted, and those.
    struct Of<T> {
        x: T,
        weight: T,
        a: T,
        b: T,
    }

    impl LowRankLinear {
        /// `right` seen as the right operand `b`: kept packed for predictions.
        fn pack(&self, right: &FlexTensor, b: Matrix<'_>, stays: bool) -> Arc<PackedRight> {
            if stays {
                packed_weight(self.linear.precision, right, b)
            } else {
                Arc::new(PackedRight::new(self.linear.precision, b))
            }
        }

        /// `scaling · left · right`.
        fn scaled(&self, left: Matrix<'_>, right: &PackedRight, columns: usize) -> FlexTensor {
            let mut product = product_packed(left, right, Onto::Nothing, Activated::No);
            scale_all(&mut product, self.scaling);
            tensor_of(product, [left.rows, columns])
        }

        fn run(&self, inputs: &Inputs, stays: [bool; 2], onto: Onto<'_>) -> (FlexTensor, FlexTensor) {
            let Inputs { x, weight, a, b } = inputs;
            let [weight_stays, factors_stay] = stays;
            let right = self.pack(a, matrix(a).transposed(), factors_stay);
            let narrow = self.scaled(matrix(x), &right, matrix(a).rows);
            let right = self.pack(b, matrix(b).transposed(), factors_stay);
            let term = Term { a: matrix(&narrow), b: &right };
            let y = self.linear.product(x, weight, weight_stays, Some(term), onto);
            (y, narrow)
        }

        fn record(&self, inputs: Inputs, roles: Roles, onto: Onto<'_>) -> (FlexTensor, Saved) {
            let (y, narrow) = self.run(&inputs, [self.linear.stays_packed(roles.weight), false], onto);
            let Inputs { x, weight, a, b } = inputs;
            let packed = (roles.a != Role::Constant).then(|| packed_input(self.linear.precision, &x));
            (y, Saved { linear: self.linear.save(x, weight, roles.weight), x: packed, narrow, a, b })
        }

        fn gradients(&self, saved: &Saved, grad: &FlexTensor, wanted: Of<bool>) -> Of<Option<FlexTensor>> {
            let precision = self.linear.precision;
            let (b, rank) = (matrix(&saved.b), dims(&saved.narrow)[1]);
            let dnarrow = (wanted.x || wanted.a)
                .then(|| self.scaled(matrix(grad), &PackedRight::new(precision, b), rank));
            let da = dnarrow.as_ref().zip(saved.x.as_ref()).filter(|_| wanted.a).map(|(dnarrow, x)| {
                let sum = product_packed(matrix(dnarrow).transposed(), x, Onto::Nothing, Activated::No);
                tensor_of(sum, [rank, dims(&saved.a)[1]])
            });
            let db = wanted.b.then(|| {
                let left = matrix(grad).transposed();
                let sum = product(precision, left, matrix(&saved.narrow), Onto::Nothing, Activated::No);
                tensor_of(sum, [b.rows, rank])
            });
            let dx = dnarrow.filter(|_| wanted.x).map(|dnarrow| {
                let right = PackedRight::new(precision, matrix(&saved.a));
                let term = Term { a: matrix(&dnarrow), b: &right };
                self.linear.input_gradient(&saved.linear, grad, Some(term))
            });
            let dweight = wanted.weight.then(|| self.linear.weight_gradient(&saved.linear, grad));
            Of { x: dx, weight: dweight, a: da, b: db }
        }
    }

    /// Input, weight, `a` and `b`.
    impl FlexOp<4> for LowRankLinear {
        type Saved = Saved;

        fn forward(&self, inputs: [FlexTensor; 4]) -> (FlexTensor, Saved) {
            FlexOp::<4>::record(self, inputs, [Role::Computed; 4])
        }

        fn record(&self, inputs: [FlexTensor; 4], roles: [Role; 4]) -> (FlexTensor, Saved) {
            let [x, weight, a, b] = inputs.map(in_order);
            let roles = Roles { weight: roles[1], a: roles[2] };
            self.record(Inputs { x, weight, a, b }, roles, Onto::Nothing)
        }

        fn predict(&self, inputs: [FlexTensor; 4]) -> FlexTensor {
            let [x, weight, a, b] = inputs.map(in_order);
            self.run(&Inputs { x, weight, a, b }, [true; 2], Onto::Nothing).0
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
            let [x, weight, a, b] = wanted;
            let found = self.gradients(&saved, &in_order(grad), Of { x, weight, a, b });
            [found.x, found.weight, found.a, found.b]
        }
    }

    /// Input, what the products are added to, weight, `a` and `b`.
    impl FlexOp<5> for LowRankLinear {
        type Saved = Saved;

        fn forward(&self, inputs: [FlexTensor; 5]) -> (FlexTensor, Saved) {
            FlexOp::<5>::record(self, inputs, [Role::Computed; 5])
        }

        fn record(&self, inputs: [FlexTensor; 5], roles: [Role; 5]) -> (FlexTensor, Saved) {
            let [x, third, weight, a, b] = inputs.map(in_order);
            let roles = Roles { weight: roles[2], a: roles[3] };
            self.record(Inputs { x, weight, a, b }, roles, self.linear.third.onto(&third))
        }

        fn predict(&self, inputs: [FlexTensor; 5]) -> FlexTensor {
            let [x, third, weight, a, b] = inputs.map(in_order);
            self.run(&Inputs { x, weight, a, b }, [true; 2], self.linear.third.onto(&third)).0
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 5]) -> [Option<FlexTensor>; 5] {
            let grad = in_order(grad);
            let [x, third, weight, a, b] = wanted;
            let found = self.gradients(&saved, &grad, Of { x, weight, a, b });
            let dthird = third.then(|| self.linear.third.gradient(&grad));
            [found.x, dthird, found.weight, found.a, found.b]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};
    use crate::{Precision, autocast};
    use burn::tensor::{Device, TensorData};

    const SHAPES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 40, 70, 8], [130, 70, 97, 4], [400, 64, 48, 40]];

    #[test]
    fn fused_and_plain_agree() {
        for [rows, inputs, outputs, r] in SHAPES {
            let x = (numbers(rows * inputs, 1, 1.0), vec![rows, inputs]);
            let weight = (numbers(outputs * inputs, 2, 1.0), vec![outputs, inputs]);
            let a = (numbers(r * inputs, 3, 1.0), vec![r, inputs]);
            let b = (numbers(outputs * r, 4, 1.0), vec![outputs, r]);
            let bias = (numbers(outputs, 5, 1.0), vec![outputs]);
            let residual = (numbers(rows * outputs, 6, 1.0), vec![rows, outputs]);
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                for addend in 0..3 {
                    let mut inputs = vec![x.clone(), weight.clone(), a.clone(), b.clone()];
                    inputs.extend(match addend {
                        0 => None,
                        1 => Some(bias.clone()),
                        _ => Some(residual.clone()),
                    });
                    compare(tolerance, &inputs, &mut |x| {
                        let addend = || match addend {
                            0 => Addend::Nothing,
                            1 => Addend::Bias(x[4].flat()),
                            _ => Addend::Residual(x[4].matrix()),
                        };
                        let adapter = || LowRank { a: x[2].matrix(), b: x[3].matrix(), scaling: 0.5 };
                        let (input, weight) = (|| x[0].matrix(), || x[1].matrix());
                        let fused =
                            autocast(precision, || low_rank_linear(input(), weight(), addend(), adapter()));
                        [fused, plain_low_rank(input(), weight(), addend(), adapter())]
                    });
                }
            }
        }
    }

    #[test]
    fn a_weight_may_lie_the_other_way() {
        for [rows, inputs, outputs, r] in SHAPES {
            let x = (numbers(rows * inputs, 1, 1.0), vec![rows, inputs]);
            let weight = (numbers(outputs * inputs, 2, 1.0), vec![inputs, outputs]);
            let a = (numbers(r * inputs, 3, 1.0), vec![r, inputs]);
            let b = (numbers(outputs * r, 4, 1.0), vec![outputs, r]);
            compare(1e-5, &[x, weight, a, b], &mut |x| {
                let adapter = || LowRank { a: x[2].matrix(), b: x[3].matrix(), scaling: 2.0 };
                let plain =
                    plain_low_rank(x[0].matrix(), x[1].matrix().transpose(), Addend::Nothing, adapter());
                [low_rank_linear_in_out(x[0].matrix(), x[1].matrix(), Addend::Nothing, adapter()), plain]
            });
        }
    }

    /// Frozen weights are read packed; the gradients are those of a weight that learns.
    #[test]
    fn a_weight_that_does_not_learn_passes_the_same_gradients_on() {
        let tensor = |shape: [usize; 2], seed| {
            let values = TensorData::new(numbers(shape[0] * shape[1], seed, 1.0), shape);
            Tensor::<2>::from_data(values, &Device::flex().autodiff())
        };
        let gradients = |precision, learns: bool| {
            let x = tensor([50, 40], 1).require_grad();
            let weight = tensor([30, 40], 2).set_require_grad(learns);
            let [a, b] = [tensor([4, 40], 3), tensor([30, 4], 4)].map(Tensor::require_grad);
            let adapter = LowRank { a: a.clone(), b: b.clone(), scaling: 0.5 };
            let y =
                autocast(precision, || low_rank_linear(x.clone(), weight.clone(), Addend::Nothing, adapter));
            let grads = (y * tensor([50, 30], 5)).sum().backward();
            assert_eq!(weight.grad(&grads).is_some(), learns);
            [x, a, b].map(|x| x.grad(&grads).unwrap().into_data().iter::<f32>().collect::<Vec<_>>())
        };
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(gradients(precision, false), gradients(precision, true));
        }
    }
}
