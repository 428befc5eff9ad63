//! Operations with kernels of their own on burn's flex backend: the glue to burn, once for all of them.
//!
//! An operation is a value that implements [`FlexOp`]; [`apply1`] to [`apply5`] run it, and record it for the backward
//! pass where gradients are wanted.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::kernels::Matrix;

/// An operation of `N` tensors with a gradient of its own.
pub trait FlexOp<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs.
    type Saved: Clone + Debug + Send + 'static;

    /// The result and what the backward pass will need.
    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved);

    /// [`forward`](Self::forward) where gradients will be asked for; `roles` tells of which inputs.
    fn record(&self, inputs: [FlexTensor; N], roles: [Role; N]) -> (FlexTensor, Self::Saved) {
        let _ = roles;
        self.forward(inputs)
    }

    /// The result alone, where no gradients will be asked for.
    fn predict(&self, inputs: [FlexTensor; N]) -> FlexTensor {
        self.forward(inputs).0
    }

    /// The gradients of those inputs that are `wanted`, from the gradient of the result.
    fn backward(&self, saved: Self::Saved, grad: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// What an input is to the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its gradient will not be asked for.
    Constant,
    /// It was computed of something that learns.
    Computed,
    /// A parameter that learns.
    Parameter,
}

/// The bridge from tensors to [`FlexOp`]s; only flex has one, so look with [`is_flex`] first.
#[backend_extension(Flex, Autodiff)]
pub trait FusedOps: Backend {
    /// One input.
    fn fused1<O: FlexOp<1>>(op: O, a: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Two inputs.
    fn fused2<O: FlexOp<2>>(op: O, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Three inputs.
    fn fused3<O: FlexOp<3>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Four inputs.
    fn fused4<O: FlexOp<4>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Five inputs.
    fn fused5<O: FlexOp<5>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn fused1<O: FlexOp<1>>(op: O, a: FloatTensor<Self>) -> FloatTensor<Self> {
        op.predict([a])
    }

    fn fused2<O: FlexOp<2>>(op: O, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        op.predict([a, b])
    }

    fn fused3<O: FlexOp<3>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        op.predict([a, b, c])
    }

    fn fused4<O: FlexOp<4>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        op.predict([a, b, c, d])
    }

    fn fused5<O: FlexOp<5>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        op.predict([a, b, c, d, e])
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn fused1<O: FlexOp<1>>(op: O, a: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<O, C, 1>(op, [a])
    }

    fn fused2<O: FlexOp<2>>(op: O, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<O, C, 2>(op, [a, b])
    }

    fn fused3<O: FlexOp<3>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        tracked::<O, C, 3>(op, [a, b, c])
    }

    fn fused4<O: FlexOp<4>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        tracked::<O, C, 4>(op, [a, b, c, d])
    }

    fn fused5<O: FlexOp<5>>(
        op: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        tracked::<O, C, 5>(op, [a, b, c, d, e])
    }
}

/// Runs the operation and records it, if one of its inputs wants a gradient.
fn tracked<O: FlexOp<N>, C: CheckpointStrategy, const N: usize>(
    op: O,
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
) -> FloatTensor<Autodiff<Flex, C>> {
    let roles = inputs.each_ref().map(|input| {
        if Autodiff::<Flex, C>::float_is_require_grad(input) {
            return Role::Parameter;
        }
        match Probe.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(_) => Role::Computed,
            OpsKind::UnTracked(_) => Role::Constant,
        }
    });
    let mut nodes: Vec<NodeGuard> = Vec::with_capacity(N);
    let inputs = inputs.map(|input| {
        let (tensor, node) = input.into_parts();
        nodes.push(node);
        tensor
    });
    let Ok(nodes) = <[NodeGuard; N]>::try_from(nodes) else { unreachable!("one node for each of N inputs") };
    match Recorded(op.clone()).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, saved) = op.record(inputs, roles);
            prepared.finish(saved, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(op.predict(inputs)),
    }
}

/// Nothing that is ever recorded: preparing it tells whether its input is on the tape.
#[derive(Debug)]
struct Probe;

impl Backward<Flex, 1> for Probe {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {}
}

/// An operation on burn's tape.
#[derive(Debug)]
struct Recorded<O>(O);

impl<O: FlexOp<N>, const N: usize> Backward<Flex, N> for Recorded<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = self.0.backward(ops.state, grad, wanted);
        for (node, grad) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

/// Whether the kernels serve this device: flex, with gradients or without.
pub(crate) fn is_flex(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// Runs an operation of one tensor.
pub(crate) fn apply1<O: FlexOp<1>, const A: usize, const D: usize>(op: O, a: Tensor<A>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused1(op, a.into_dispatch()))
}

/// Runs an operation of two tensors.
pub(crate) fn apply2<O: FlexOp<2>, const A: usize, const B: usize, const D: usize>(
    op: O,
    a: Tensor<A>,
    b: Tensor<B>,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused2(op, a.into_dispatch(), b.into_dispatch()))
}

/// Runs an operation of three tensors.
pub(crate) fn apply3<O: FlexOp<3>, const A: usize, const B: usize, const C: usize, const D: usize>(
    op: O,
    a: Tensor<A>,
    b: Tensor<B>,
    c: Tensor<C>,
) -> Tensor<D> {
    let (a, b, c) = (a.into_dispatch(), b.into_dispatch(), c.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused3(op, a, b, c))
}

/// Runs an operation of four tensors, two of either rank; the result has the rank of the first.
pub(crate) fn apply4<O: FlexOp<4>, const A: usize, const C: usize>(
    op: O,
    a: Tensor<A>,
    b: Tensor<A>,
    c: Tensor<C>,
    d: Tensor<C>,
) -> Tensor<A> {
    let (a, b, c, d) = (a.into_dispatch(), b.into_dispatch(), c.into_dispatch(), d.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused4(op, a, b, c, d))
}

/// Runs an operation of five tensors, the last three of rank 2; the result has the rank of the first.
pub(crate) fn apply5<O: FlexOp<5>, const A: usize, const B: usize>(
    op: O,
    a: Tensor<A>,
    b: Tensor<B>,
    [c, d, e]: [Tensor<2>; 3],
) -> Tensor<A> {
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    let [c, d, e] = [c, d, e].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused5(op, a, b, c, d, e))
}

/// A tensor of these values, row by row.
pub(crate) fn tensor_of<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A tensor of these values in the shape of `model`.
pub(crate) fn like(model: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, model.layout().shape().clone()))
}

/// The sizes of a tensor's dimensions.
pub(crate) fn dims(tensor: &FlexTensor) -> Vec<usize> {
    let shape = tensor.layout().shape();
    (0..shape.num_dims()).map(|axis| shape[axis]).collect()
}

/// The same tensor with its values in order, as f32.
pub(crate) fn in_order(tensor: FlexTensor) -> FlexTensor {
    debug_assert_eq!(tensor.dtype(), DType::F32, "models hold f32");
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The values of a tensor that is [`in_order`].
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_else(|| unreachable!("brought in order before"))
}

/// The values of a tensor, row by row: its own memory if nobody else holds it, otherwise a copy.
pub(crate) fn into_values(tensor: FlexTensor) -> Vec<f32> {
    let data = in_order(tensor).into_data();
    data.try_into_vec::<f32>().unwrap_or_else(|_| unreachable!("models hold f32"))
}

/// A tensor of rank 2 that is [`in_order`].
pub(crate) fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let shape = tensor.layout().shape();
    Matrix::new(values(tensor), shape[0], shape[1])
}
