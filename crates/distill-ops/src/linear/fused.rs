//! The affine map by the kernels, with a backward of its own.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{Addend, Layout};
use crate::flex_op::{FlexOp, Role, apply2, apply3, dims, in_order, matrix, tensor_of, values};
use crate::kernels::{
    Activated, Curve, Matrix, Onto, PackedRight, Term, column_sums, product, product_packed, product_sum,
    times_table, with_packed,
};
use crate::packed::{is_packed, packed_input, packed_weight};
use crate::precision::{Precision, precision};

pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    curve: Option<Curve>,
    layout: Layout,
    weight: Tensor<2>,
    addend: Addend<D>,
) -> Tensor<D> {
    let (x, shape) = flattened(x, layout, &weight);
    let op = |third| Linear { precision: precision(), curve, layout, third };
    let y: Tensor<2> = match addend {
        Addend::Nothing => apply2(op(Third::Bias), x, weight),
        Addend::Bias(bias) => apply3(op(Third::Bias), x, weight, bias),
        Addend::Residual(residual) => {
            let rows = residual.reshape([x.dims()[0], shape[D - 1]]);
            apply3(op(Third::Residual), x, weight, rows)
        }
    };
    y.reshape(shape)
}

/// The input as `[rows, inputs]`, and the shape of the result.
pub(crate) fn flattened<const D: usize>(
    x: Tensor<D>,
    layout: Layout,
    weight: &Tensor<2>,
) -> (Tensor<2>, [usize; D]) {
    let mut shape = x.dims();
    let [outputs, inputs] = match (layout, weight.dims()) {
        (Layout::OutIn, shape) => shape,
        (Layout::InOut, [inputs, outputs]) => [outputs, inputs],
    };
    let rows = shape[..D - 1].iter().product::<usize>();
    shape[D - 1] = outputs;
    (x.reshape([rows, inputs]), shape)
}

/// Elements of a weight from which no packed copy is made for a few rows: 16 MiB.
const LARGE_WEIGHT: usize = 1 << 22;
/// So many rows are few.
const FEW_ROWS: usize = 4;

/// The affine map as an operation of input, weight and what they are added to, if anything.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) precision: Precision,
    /// Of the input.
    pub(crate) curve: Option<Curve>,
    /// Of the weight.
    pub(crate) layout: Layout,
    /// What a third input is.
    pub(crate) third: Third,
}

/// What the product is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Third {
    /// `[outputs]`
    Bias,
    /// `[rows, outputs]`
    Residual,
}

impl Third {
    pub(crate) fn onto(self, tensor: &FlexTensor) -> Onto<'_> {
        match self {
            Self::Bias => Onto::Bias(values(tensor)),
            Self::Residual => Onto::Matrix(matrix(tensor)),
        }
    }

    /// Its gradient, from that of the result.
    pub(crate) fn gradient(self, grad: &FlexTensor) -> FlexTensor {
        match self {
            Self::Bias => {
                let [rows, outputs] = [0, 1].map(|axis| dims(grad)[axis]);
                tensor_of(column_sums(values(grad), rows, outputs), [outputs])
            }
            Self::Residual => grad.clone(),
        }
    }
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
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
    /// `x · weightᵀ + term`, onto what it is added to; a weight that stays as it is stays packed.
    pub(crate) fn product(
        &self,
        x: &FlexTensor,
        weight: &FlexTensor,
        stays: bool,
        term: Option<Term<'_>>,
        onto: Onto<'_>,
    ) -> FlexTensor {
        let (x, right) = (matrix(x), self.right(weight));
        if stays && term.is_none() && self.is_read_in_place(x.rows, weight, right) {
            return tensor_of(times_table(x, right.transposed(), onto), [x.rows, right.columns]);
        }
        let multiplied = |b: &PackedRight| match term {
            Some(term) => product_sum(x, b, term, onto),
            None => product_packed(x, b, onto, self.curve.map_or(Activated::No, Activated::Left)),
        };
        tensor_of(self.packed(weight, right, stays, multiplied), [x.rows, right.columns])
    }

    /// Whether a weight is multiplied where it lies: a vocabulary's, that only the last tokens of texts meet. In f32 a
    /// packed copy would be as long, and no faster to read.
    fn is_read_in_place(&self, rows: usize, weight: &FlexTensor, right: Matrix<'_>) -> bool {
        self.precision == Precision::F32
            && self.curve.is_none()
            && self.layout == Layout::OutIn
            && right.rows * right.columns >= LARGE_WEIGHT
            && rows <= FEW_ROWS
            && !is_packed(self.precision, weight, right)
    }

    /// What `work` makes of the weight, seen as `b` and packed; the packed form is kept where the weight `stays` as it is.
    fn packed(
        &self,
        weight: &FlexTensor,
        b: Matrix<'_>,
        stays: bool,
        work: impl FnOnce(&PackedRight) -> Vec<f32>,
    ) -> Vec<f32> {
        if stays {
            work(&packed_weight(self.precision, weight, b))
        } else {
            with_packed(self.precision, b, work)
        }
    }

    /// The weight as the right operand of a product with the input, `[inputs, outputs]`.
    fn right<'a>(&self, weight: &'a FlexTensor) -> Matrix<'a> {
        match self.layout {
            Layout::OutIn => matrix(weight).transposed(),
            Layout::InOut => matrix(weight),
        }
    }

    /// Whether a weight is kept packed between steps, once for either pass: in bf16, where both copies together are
    /// as long as the weight. In f32 they would be twice as long, and packing is a smaller part of a product.
    pub(crate) fn stays_packed(&self, role_of_weight: Role) -> bool {
        role_of_weight == Role::Constant && self.precision == Precision::Bf16
    }

    pub(crate) fn save(&self, x: FlexTensor, weight: FlexTensor, role_of_weight: Role) -> Saved {
        let shape = [0, 1].map(|axis| dims(&x)[axis]);
        let frozen = self.stays_packed(role_of_weight);
        let x = match (self.curve, role_of_weight, self.layout) {
            (None, Role::Constant, _) => Input::Dropped,
            (None, Role::Parameter, Layout::OutIn) => Input::Packed(packed_input(self.precision, &x)),
            _ => Input::Plain(x),
        };
        Saved { x, weight, frozen, shape }
    }

    /// The gradient of `x`: `grad · weight + term`.
    pub(crate) fn input_gradient(
        &self,
        saved: &Saved,
        grad: &FlexTensor,
        term: Option<Term<'_>>,
    ) -> FlexTensor {
        let (grad, back) = (matrix(grad), self.right(&saved.weight).transposed());
        let slope = match (self.curve, &saved.x) {
            (Some(curve), Input::Plain(x)) => Activated::Slope(curve, matrix(x)),
            _ => Activated::No,
        };
        let multiplied = |b: &PackedRight| match term {
            Some(term) => product_sum(grad, b, term, Onto::Nothing),
            None => product_packed(grad, b, Onto::Nothing, slope),
        };
        tensor_of(self.packed(&saved.weight, back, saved.frozen, multiplied), saved.shape)
    }

    /// The gradient of the weight: `gradᵀ · x`.
    pub(crate) fn weight_gradient(&self, saved: &Saved, grad: &FlexTensor) -> FlexTensor {
        let grad = matrix(grad);
        let sum = match (&saved.x, self.layout) {
            (Input::Dropped, _) => unreachable!("the gradient of a constant is not asked for"),
            (Input::Packed(x), _) => product_packed(grad.transposed(), x, Onto::Nothing, Activated::No),
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
    }
}

impl FlexOp<2> for Linear {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Saved) {
        self.record(inputs, [Role::Computed; 2])
    }

    fn record(&self, inputs: [FlexTensor; 2], roles: [Role; 2]) -> (FlexTensor, Saved) {
        let [x, weight] = inputs.map(in_order);
        let y = self.product(&x, &weight, self.stays_packed(roles[1]), None, Onto::Nothing);
        (y, self.save(x, weight, roles[1]))
    }

    fn predict(&self, inputs: [FlexTensor; 2]) -> FlexTensor {
        let [x, weight] = inputs.map(in_order);
        self.product(&x, &weight, true, None, Onto::Nothing)
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let grad = in_order(grad);
        [
            wanted[0].then(|| self.input_gradient(&saved, &grad, None)),
            wanted[1].then(|| self.weight_gradient(&saved, &grad)),
        ]
    }
}

impl FlexOp<3> for Linear {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        self.record(inputs, [Role::Computed; 3])
    }

    fn record(&self, inputs: [FlexTensor; 3], roles: [Role; 3]) -> (FlexTensor, Saved) {
        let [x, weight, third] = inputs.map(in_order);
        let y = self.product(&x, &weight, self.stays_packed(roles[1]), None, self.third.onto(&third));
        (y, self.save(x, weight, roles[1]))
    }

    fn predict(&self, inputs: [FlexTensor; 3]) -> FlexTensor {
        let [x, weight, third] = inputs.map(in_order);
        self.product(&x, &weight, true, None, self.third.onto(&third))
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let grad = in_order(grad);
        [
            wanted[0].then(|| self.input_gradient(&saved, &grad, None)),
            wanted[1].then(|| self.weight_gradient(&saved, &grad)),
            wanted[2].then(|| self.third.gradient(&grad)),
        ]
    }
}
