//! Attention by the kernels, with a backward of its own.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{AttentionOutput, Scores};
use crate::AttentionBias;
use crate::flex_op::{FlexOp, apply1, apply3, apply4, dims, in_order, tensor_of, values};
use crate::kernels::{
    AttentionArgs, AttentionForward, AttentionGradientArgs, AttentionShape, FEW_QUERIES, HeadRows,
    RandomMask, ScoreBias, attention as attention_kernel, attention_backward, attention_decode,
};
use crate::precision::{Precision, precision};

pub(super) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    scale: f64,
    bias: &AttentionBias,
    dropout: Option<RandomMask>,
    scores: Scores,
) -> AttentionOutput {
    let op = Attention {
        scale: scale as f32,
        attention_mask: bias.padding.as_ref().map(|padding| padding.attention_mask.clone()),
        causal: bias.causal,
        key_ranges: bias.segments.as_ref().map(|segments| segments.ranges.clone()),
        dropout,
        precision: precision(),
    };
    match scores {
        Scores::Discard => AttentionOutput { context: apply(op, q, k, v, bias), scores: None },
        Scores::Keep => {
            let slots = Slots::default();
            let carrier = apply(AttentionWithScores { op, slots: slots.clone() }, q, k, v, bias);
            AttentionOutput {
                context: apply1(Fetch { slot: slots.context }, carrier.clone()),
                scores: Some(apply1(Fetch { slot: slots.scores }, carrier)),
            }
        }
    }
}

fn apply<O: FlexOp<3> + FlexOp<4>>(
    op: O,
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: &AttentionBias,
) -> Tensor<4> {
    match &bias.bias {
        Some(bias) => apply4(op, q, k, v, bias.clone()),
        None => apply3(op, q, k, v),
    }
}

#[derive(Debug, Clone)]
struct Attention {
    scale: f32,
    attention_mask: Option<Arc<[u8]>>,
    causal: bool,
    key_ranges: Option<Arc<[[u32; 2]]>>,
    dropout: Option<RandomMask>,
    precision: Precision,
}

#[derive(Debug, Clone)]
struct Saved {
    inputs: [FlexTensor; 3],
    bias: Option<FlexTensor>,
    /// As the kernel writes it: `[batch, q_len, heads, head_size]`.
    context: FlexTensor,
    lse: Vec<f32>,
}

impl Attention {
    fn arguments<'a>(
        &'a self,
        [q, k, v]: [&'a FlexTensor; 3],
        bias: Option<&'a FlexTensor>,
    ) -> AttentionArgs<'a> {
        let (of_q, of_k) = (dims(q), dims(k));
        AttentionArgs {
            shape: AttentionShape {
                batch: of_q[0],
                heads: of_q[1],
                kv_heads: of_k[1],
                q_len: of_q[2],
                k_len: of_k[2],
                head_size: of_q[3],
            },
            q: head_rows(q),
            k: head_rows(k),
            v: head_rows(v),
            scale: self.scale,
            attention_mask: self.attention_mask.as_deref(),
            causal: self.causal,
            key_ranges: self.key_ranges.as_deref(),
            bias: bias.map(|bias| {
                let [batch, heads] = [0, 1].map(|axis| dims(bias)[axis]);
                ScoreBias { values: values(bias), batch, heads }
            }),
            dropout: self.dropout,
            precision: self.precision,
        }
    }

    /// The context, the scores where asked for, and what the backward pass needs.
    fn run(
        &self,
        inputs: [FlexTensor; 3],
        bias: Option<FlexTensor>,
        scores: Scores,
    ) -> (FlexTensor, Option<FlexTensor>, Saved) {
        let (inputs, bias) = (inputs.map(by_rows), bias.map(in_order));
        let arguments = self.arguments(inputs.each_ref(), bias.as_ref());
        let AttentionShape { batch, heads, q_len, k_len, head_size, .. } = arguments.shape;
        let AttentionForward { context, lse, scores } = attention_kernel(&arguments, scores);
        let context = tensor_of(context, [batch, q_len, heads, head_size]);
        let scores = scores.map(|scores| tensor_of(scores, [batch, heads, q_len, k_len]));
        (context.permute(&[0, 2, 1, 3]), scores, Saved { inputs, bias, context, lse })
    }

    /// The context alone.
    fn prediction(&self, inputs: [FlexTensor; 3], bias: Option<FlexTensor>) -> FlexTensor {
        if dims(&inputs[0])[2] > FEW_QUERIES || self.dropout.is_some() {
            return self.run(inputs, bias, Scores::Discard).0;
        }
        let (inputs, bias) = (inputs.map(by_rows), bias.map(in_order));
        let arguments = self.arguments(inputs.each_ref(), bias.as_ref());
        let AttentionShape { batch, heads, q_len, head_size, .. } = arguments.shape;
        tensor_of(attention_decode(&arguments), [batch, q_len, heads, head_size]).permute(&[0, 2, 1, 3])
    }

    /// The gradients of `q`, `k`, `v` and of the bias, from those of context and scores.
    fn gradients(
        &self,
        saved: Saved,
        of_context: FlexTensor,
        of_scores: Option<FlexTensor>,
        bias_wanted: bool,
    ) -> ([FlexTensor; 3], Option<FlexTensor>) {
        let Saved { inputs, bias, context, lse } = saved;
        let (of_context, of_scores) = (by_rows(of_context), of_scores.map(in_order));
        let arguments = self.arguments(inputs.each_ref(), bias.as_ref());
        let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = arguments.shape;
        let found = attention_backward(
            &arguments,
            &AttentionGradientArgs {
                dcontext: head_rows(&of_context),
                context: values(&context),
                lse: &lse,
                dscores: of_scores.as_ref().map(values),
                bias_gradient: bias_wanted,
            },
        );
        let by_heads =
            |values, len, heads| tensor_of(values, [batch, len, heads, head_size]).permute(&[0, 2, 1, 3]);
        let grads = [
            by_heads(found.dq, q_len, heads),
            by_heads(found.dk, k_len, kv_heads),
            by_heads(found.dv, k_len, kv_heads),
        ];
        let dbias = found.dbias.zip(bias).map(|(dbias, bias)| crate::flex_op::like(&bias, dbias));
        (grads, dbias)
    }
}

/// A tensor whose last dimension is contiguous, and whose others run forwards.
fn by_rows(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides.last() == Some(&1) && strides.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

fn head_rows(tensor: &FlexTensor) -> HeadRows<'_> {
    let layout = tensor.layout();
    let strides = layout.strides();
    HeadRows {
        values: &tensor.storage::<f32>()[layout.start_offset()..],
        strides: [0, 1, 2].map(|axis| strides[axis] as usize),
    }
}

impl FlexOp<3> for Attention {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        let (context, _, saved) = self.run(inputs, None, Scores::Discard);
        (context, saved)
    }

    fn predict(&self, inputs: [FlexTensor; 3]) -> FlexTensor {
        self.prediction(inputs, None)
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        self.gradients(saved, grad, None, false).0.map(Some)
    }
}

impl FlexOp<4> for Attention {
    type Saved = Saved;

    fn forward(&self, [q, k, v, bias]: [FlexTensor; 4]) -> (FlexTensor, Saved) {
        let (context, _, saved) = self.run([q, k, v], Some(bias), Scores::Discard);
        (context, saved)
    }

    fn predict(&self, [q, k, v, bias]: [FlexTensor; 4]) -> FlexTensor {
        self.prediction([q, k, v], Some(bias))
    }

    fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let ([dq, dk, dv], dbias) = self.gradients(saved, grad, None, wanted[3]);
        [Some(dq), Some(dk), Some(dv), dbias]
    }
}

/// Attention with two results. An operation on burn's tape has one: here it is a carrier, one number without
/// meaning, and context and scores lie in the slots for the operations that [`Fetch`] them from there. On the way
/// back these leave their gradients in the same place.
#[derive(Debug, Clone)]
struct AttentionWithScores {
    op: Attention,
    slots: Slots,
}

#[derive(Debug, Clone, Default)]
struct Slots {
    context: Slot,
    scores: Slot,
}

/// A result until it is fetched, later its gradient if it has one.
#[derive(Debug, Clone, Default)]
struct Slot(Arc<Mutex<Option<FlexTensor>>>);

impl Slot {
    fn put(&self, tensor: FlexTensor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tensor);
    }

    fn take(&self) -> Option<FlexTensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The value of a carrier, and its gradient.
fn carrier() -> FlexTensor {
    tensor_of(vec![0.0], [1, 1, 1, 1])
}

impl AttentionWithScores {
    fn run(&self, inputs: [FlexTensor; 3], bias: Option<FlexTensor>) -> (FlexTensor, Saved) {
        let (context, scores, saved) = self.op.run(inputs, bias, Scores::Keep);
        self.slots.context.put(context);
        if let Some(scores) = scores {
            self.slots.scores.put(scores);
        }
        (carrier(), saved)
    }

    /// A loss of the scores alone gives values and bias zeros: burn's tape wants something for every input.
    fn gradients(&self, saved: Saved, bias_wanted: bool) -> ([FlexTensor; 3], Option<FlexTensor>) {
        let of_context = self.slots.context.take().unwrap_or_else(|| {
            let [batch, q_len, heads, head_size] = [0, 1, 2, 3].map(|axis| dims(&saved.context)[axis]);
            let zeros = vec![0.0; batch * heads * q_len * head_size];
            tensor_of(zeros, [batch, heads, q_len, head_size])
        });
        self.op.gradients(saved, of_context, self.slots.scores.take(), bias_wanted)
    }
}

impl FlexOp<3> for AttentionWithScores {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        self.run(inputs, None)
    }

    fn backward(&self, saved: Saved, _: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        self.gradients(saved, false).0.map(Some)
    }
}

impl FlexOp<4> for AttentionWithScores {
    type Saved = Saved;

    fn forward(&self, [q, k, v, bias]: [FlexTensor; 4]) -> (FlexTensor, Saved) {
        self.run([q, k, v], Some(bias))
    }

    fn backward(&self, saved: Saved, _: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let ([dq, dk, dv], dbias) = self.gradients(saved, wanted[3]);
        [Some(dq), Some(dk), Some(dv), dbias]
    }
}

/// Takes a result out of its slot, and puts its gradient there.
#[derive(Debug, Clone)]
struct Fetch {
    slot: Slot,
}

impl FlexOp<1> for Fetch {
    type Saved = ();

    fn forward(&self, _: [FlexTensor; 1]) -> (FlexTensor, ()) {
        let result = self.slot.take();
        (result.unwrap_or_else(|| unreachable!("attention has just put it there")), ())
    }

    fn backward(&self, (): (), grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        self.slot.put(grad);
        [Some(carrier())]
    }
}
