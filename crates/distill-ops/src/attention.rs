//! Scaled dot-product attention; Vaswani et al. 2017, §3.2.1 (arXiv:1706.03762).

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::Dropout;

/// Added to the score of a padded key: its weight after softmax is exactly zero, and a row whose keys are all padded
/// still has finite weights.
const MASKED: f32 = -1e9;

/// What happens to the scores before the softmax: which keys a query may see, and what is added.
#[derive(Debug, Clone, Default)]
pub struct AttentionBias {
    padding: Option<Padding>,
    segments: Option<Segments>,
    causal: bool,
    bias: Option<Tensor<4>>,
}

/// Several texts in a row.
#[derive(Debug, Clone)]
struct Segments {
    /// For each token the first one of its text, and the one after the last: `[batch, seq]`.
    ranges: Arc<[[u32; 2]]>,
    shape: [usize; 2],
}

/// The padding of a batch that has any.
#[derive(Debug, Clone)]
struct Padding {
    /// 1 for a token, 0 for padding: `[batch, k_len]`.
    attention_mask: Arc<[u8]>,
    shape: [usize; 2],
}

impl AttentionBias {
    /// From Hugging Face's `attention_mask`: 1 for a token, 0 for padding; `[batch, seq]` row by row.
    ///
    /// A batch without padding carries no mask at all, which saves a pass over the scores.
    pub fn from_padding_mask(attention_mask: &[u8], shape: [usize; 2]) -> Self {
        let padded = attention_mask.contains(&0);
        let padding = padded.then(|| Padding { attention_mask: attention_mask.into(), shape });
        Self { padding, ..Self::default() }
    }

    /// Several texts in a row: a query sees the keys of its own segment alone.
    ///
    /// # Shapes
    /// - `segments`: a number for each token, the same throughout a text; `[batch, seq]` row by row
    pub fn from_segments(segments: &[u32], shape: [usize; 2], device: &Device) -> Self {
        let [batch, seq] = shape;
        let rows = || segments.chunks(seq.max(1));
        if rows().all(|row| row.windows(2).all(|pair| pair[0] == pair[1])) {
            return Self::default();
        }
        if rows().all(each_text_is_in_one_piece) {
            let ranges = rows().flat_map(ranges).collect();
            return Self { segments: Some(Segments { ranges, shape }), ..Self::default() };
        }
        let added: Vec<f32> = rows()
            .flat_map(|row| row.iter().flat_map(|of_query| row.iter().map(move |of_key| of_query == of_key)))
            .map(|same| if same { 0.0 } else { MASKED })
            .collect();
        Self::default().with_bias(Tensor::from_data(TensorData::new(added, [batch, 1, seq, seq]), device))
    }

    /// Nothing is masked, nothing is added.
    pub fn none() -> Self {
        Self::default()
    }

    /// A query sees no later key: of `k_len` keys, query `i` of `q_len` sees the first `i + 1 + k_len − q_len`.
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// Adds `bias` to the scores, which T5's relative positions need; it may learn.
    ///
    /// # Shapes
    /// - `bias`: `[batch or 1, heads or 1, q_len, k_len]`
    pub fn with_bias(self, bias: Tensor<4>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// All of it added to the scores, `[batch, heads, q_len, k_len]`, in burn's own operations.
    fn add_to(&self, scores: Tensor<4>) -> Tensor<4> {
        let [_, _, q_len, k_len] = scores.dims();
        let device = scores.device();
        let scores = match &self.bias {
            Some(bias) => scores + bias.clone(),
            None => scores,
        };
        let scores = match &self.padding {
            Some(Padding { attention_mask, shape: [batch, k_len] }) => {
                let added: Vec<f32> =
                    attention_mask.iter().map(|&kept| if kept != 0 { 0.0 } else { MASKED }).collect();
                scores + Tensor::from_data(TensorData::new(added, [*batch, 1, 1, *k_len]), &device)
            }
            None => scores,
        };
        let scores = match &self.segments {
            Some(Segments { ranges, shape: [batch, seq] }) => {
                let seen = |range: &[u32; 2], key: usize| (range[0]..range[1]).contains(&(key as u32));
                let added: Vec<f32> = ranges
                    .iter()
                    .flat_map(|range| (0..*seq).map(move |key| if seen(range, key) { 0.0 } else { MASKED }))
                    .collect();
                scores + Tensor::from_data(TensorData::new(added, [*batch, 1, *seq, *seq]), &device)
            }
            None => scores,
        };
        if !self.causal {
            return scores;
        }
        let hidden = |cell: usize| cell % k_len + q_len > cell / k_len + k_len;
        let added: Vec<f32> =
            (0..q_len * k_len).map(|cell| if hidden(cell) { f32::NEG_INFINITY } else { 0.0 }).collect();
        scores + Tensor::from_data(TensorData::new(added, [1, 1, q_len, k_len]), &device)
    }
}

/// Whether no number comes back after another one.
fn each_text_is_in_one_piece(segments: &[u32]) -> bool {
    let mut seen: Vec<u32> = segments.chunk_by(|a, b| a == b).map(|text| text[0]).collect();
    let texts = seen.len();
    seen.sort_unstable();
    seen.dedup();
    seen.len() == texts
}

/// For each token the first one of its text, and the one after the last.
fn ranges(segments: &[u32]) -> Vec<[u32; 2]> {
    let mut all = Vec::with_capacity(segments.len());
    for text in segments.chunk_by(|a, b| a == b) {
        let first = all.len();
        all.resize(first + text.len(), [first as u32, (first + text.len()) as u32]);
    }
    all
}

/// Whether [`attention`] hands its scores back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Not needed; a fused implementation never writes them.
    Discard,
    /// Wanted, for losses that compare attention maps.
    Keep,
}

/// What [`attention`] returns.
#[derive(Debug, Clone)]
pub struct AttentionOutput {
    /// The weighted values: `[batch, heads, seq, head_size]`.
    pub context: Tensor<4>,
    /// `q · kᵀ / √head_size` before bias and softmax, `[batch, heads, seq, seq]`, where asked for.
    pub scores: Option<Tensor<4>>,
}

/// `dropout(softmax(q · kᵀ / √head_size + bias)) · v`.
///
/// Fewer heads of keys and values than of queries are shared by neighbours (grouped-query attention; Ainslie et al. 2023,
/// arXiv:2305.13245).
///
/// # Shapes
/// - `q` and the context: `[batch, heads, q_len, head_size]`
/// - `k`, `v`: `[batch, kv_heads, k_len, head_size]`, `heads` a multiple of `kv_heads`
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: &AttentionBias,
    dropout_p: f64,
    dropout: &mut Dropout,
    scores: Scores,
) -> AttentionOutput {
    let scale = (q.dims()[3] as f64).sqrt().recip();
    scaled_attention(q, k, v, scale, bias, dropout_p, dropout, scores)
}

/// [`attention`] with a `scale` of its own instead of `1 / √head_size`: T5 has 1.
#[allow(clippy::too_many_arguments)] // the three operands, and what the formula names
pub fn scaled_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    scale: f64,
    bias: &AttentionBias,
    dropout_p: f64,
    dropout: &mut Dropout,
    scores: Scores,
) -> AttentionOutput {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&q.device()) {
        return fused::attention(q, k, v, scale, bias, dropout.next(dropout_p), scores);
    }
    plain(q, k, v, scale, bias, dropout_p, dropout, scores)
}

/// [`scaled_attention`] in burn's own operations.
#[allow(clippy::too_many_arguments)]
fn plain(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    scale: f64,
    bias: &AttentionBias,
    dropout_p: f64,
    dropout: &mut Dropout,
    scores: Scores,
) -> AttentionOutput {
    let heads = q.dims()[1];
    let (k, v) = (shared_heads(k, heads), shared_heads(v, heads));
    // Scaling the queries touches fewer numbers than scaling the scores.
    let raw = (q * scale).matmul(k.transpose());
    let kept = (scores == Scores::Keep).then(|| raw.clone());
    let weights = dropout.apply_by_rows(activation::softmax(bias.add_to(raw), 3), dropout_p);
    AttentionOutput { context: weights.matmul(v), scores: kept }
}

/// Keys or values repeated for the heads that share them: `[batch, heads, k_len, head_size]`.
fn shared_heads(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, k_len, head_size] = x.dims();
    if kv_heads == heads {
        return x;
    }
    let group = heads / kv_heads;
    let x = x.reshape([batch, kv_heads, 1, k_len * head_size]).repeat_dim(2, group);
    x.reshape([batch, heads, k_len, head_size])
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::{Arc, Mutex, PoisonError};

    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use super::{AttentionBias, AttentionOutput, Scores};
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
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn weights_follow_the_definition_and_padding_gets_none() {
        let shape = [1, 1, 3, 2];
        let q = tensor(&[1.0, 0.0, 0.5, -1.0, 2.0, 2.0], shape);
        let k = tensor(&[1.0, 1.0, -1.0, 0.5, 9.0, 9.0], shape);
        let v = tensor(&[1.0, 2.0, 3.0, 4.0, 100.0, 100.0], shape);
        let bias = AttentionBias::from_padding_mask(&[1, 1, 0], [1, 3]);
        let out = attention(q, k, v, &bias, 0.0, &mut Dropout::off(), Scores::Keep);
        let root = 2f32.sqrt();
        let mut expected = Vec::new();
        for (a, b) in [(1.0, -1.0), (-0.5, -1.0), (4.0, -1.0f32)] {
            let (a, b) = ((a / root).exp(), (b / root).exp());
            expected.extend([(a + 3.0 * b) / (a + b), (2.0 * a + 4.0 * b) / (a + b)]);
        }
        let found = out.context.into_data();
        for (found, expected) in found.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!(out.scores.unwrap().dims(), [1, 1, 3, 3]);
    }

    #[test]
    fn a_row_of_padding_only_stays_finite() {
        let x = tensor(&[1.0, -1.0, 0.5, 2.0], [1, 1, 2, 2]);
        let bias = AttentionBias::from_padding_mask(&[0, 0], [1, 2]);
        let out = attention(x.clone(), x.clone(), x, &bias, 0.0, &mut Dropout::off(), Scores::Discard);
        assert!(out.context.into_data().as_slice::<f32>().unwrap().iter().all(|v| v.is_finite()));
        assert!(out.scores.is_none());
    }

    use crate::test_support::{Input, compare, numbers};

    fn input(shape: [usize; 4], seed: u64) -> (Vec<f32>, Vec<usize>) {
        (numbers(shape.iter().product(), seed, 2.0), shape.to_vec())
    }

    /// Which results the gradients come from.
    #[derive(Debug, Clone, Copy)]
    enum Results {
        Context,
        Scores,
        Both,
    }

    impl Results {
        fn asks(self) -> Scores {
            if matches!(self, Self::Context) { Scores::Discard } else { Scores::Keep }
        }

        fn of(self, output: AttentionOutput) -> Tensor<1> {
            let flat = |x: Tensor<4>| {
                let len = x.dims().iter().product::<usize>();
                x.reshape([len])
            };
            let parts = match self {
                Self::Context => vec![flat(output.context)],
                Self::Scores => vec![flat(output.scores.unwrap())],
                Self::Both => vec![flat(output.context), flat(output.scores.unwrap())],
            };
            Tensor::cat(parts, 0)
        }
    }

    /// Both bodies of the same call, with queries and keys as leaves, and perhaps values and a bias.
    fn both(x: &[Input], bias: &AttentionBias, dropout_p: f64, results: Results) -> [Tensor<1>; 2] {
        let bias = match x.get(3) {
            Some(added) => bias.clone().with_bias(added.shaped()),
            None => bias.clone(),
        };
        let dropout = || Dropout::new(1, 2, 3);
        let [q, k] = [0, 1].map(|i| x[i].shaped::<4>());
        let v = x.get(2).map_or_else(|| k.clone().detach(), Input::shaped);
        let fused =
            attention(q.clone(), k.clone(), v.clone(), &bias, dropout_p, &mut dropout(), results.asks());
        let scale = (q.dims()[3] as f64).sqrt().recip();
        let plain = plain(q, k, v, scale, &bias, dropout_p, &mut dropout(), results.asks());
        [fused, plain].map(|output| results.of(output))
    }

    #[test]
    fn fused_and_plain_agree() {
        for ([batch, heads, kv_heads], [q_len, k_len, size]) in [
            ([1, 1, 1], [1, 2, 3]),
            ([2, 3, 3], [7, 7, 33]),
            ([2, 4, 2], [20, 70, 32]),
            ([3, 2, 1], [130, 130, 16]),
        ] {
            let q = input([batch, heads, q_len, size], 1);
            let [k, v] = [2, 3].map(|seed| input([batch, kv_heads, k_len, size], seed));
            let mut attention_mask = vec![1u8; batch * k_len];
            attention_mask[k_len - k_len / 3..k_len].fill(0);
            let padded = AttentionBias::from_padding_mask(&attention_mask, [batch, k_len]);
            let inputs = [q, k, v, input([1, heads, q_len, k_len], 4)];
            // How many of the inputs have a gradient.
            for (results, leaves) in [(Results::Context, 3), (Results::Scores, 2), (Results::Both, 3)] {
                for bias in [
                    AttentionBias::none(),
                    padded.clone(),
                    AttentionBias::none().causal(),
                    padded.clone().causal(),
                ] {
                    for dropout_p in [0.0, 0.3] {
                        compare(2e-5, &inputs[..leaves], &mut |x| both(x, &bias, dropout_p, results));
                    }
                }
            }
            for results in [Results::Context, Results::Both] {
                compare(2e-5, &inputs, &mut |x| both(x, &AttentionBias::none(), 0.1, results));
            }
        }
    }

    #[test]
    fn texts_in_a_row_do_not_see_each_other() {
        let device = Device::flex();
        let inputs = [1, 2, 3].map(|seed| input([2, 2, 40, 8], seed));
        let one_after_another: Vec<u32> = (0..80).map(|token| token / 17).collect();
        let with_returns: Vec<u32> = (0..80).map(|token| token / 7 % 2).collect();
        for segments in [&one_after_another, &with_returns] {
            let bias = AttentionBias::from_segments(segments, [2, 40], &device);
            assert_eq!(bias.bias.is_some(), segments == &with_returns);
            let same =
                |row: usize, query: usize, key: usize| segments[row * 40 + query] == segments[row * 40 + key];
            let cells = (0..2 * 40 * 40).map(|cell| same(cell / 1600, cell / 40 % 40, cell % 40));
            let added: Vec<f32> = cells.map(|same| if same { 0.0 } else { MASKED }).collect();
            for causal in [false, true] {
                let of = |bias: AttentionBias| if causal { bias.causal() } else { bias };
                compare(2e-5, &inputs, &mut |x| both(x, &of(bias.clone()), 0.1, Results::Context));
                compare(2e-5, &inputs, &mut |x| {
                    let added = TensorData::new(added.clone(), [2, 1, 40, 40]);
                    let added = Tensor::from_data(added, &x[0].flat().device());
                    [bias.clone(), AttentionBias::none().with_bias(added)]
                        .map(|bias| both(x, &of(bias), 0.1, Results::Context)[0].clone())
                });
            }
        }
        assert!(AttentionBias::from_segments(&[3; 80], [2, 40], &device).segments.is_none());
    }

    #[test]
    fn few_queries_without_gradients_have_the_context_of_training() {
        let values = |x: Tensor<4>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        let bias = AttentionBias::from_padding_mask(&[0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 5]).causal();
        for q_len in [1, 3, 5] {
            let shapes = [[2, 4, q_len, 8], [2, 2, 5, 8], [2, 2, 5, 8]];
            let [q, k, v] = [0, 1, 2].map(|i| tensor(&input(shapes[i], i as u64).0, shapes[i]));
            let predicted =
                attention(q.clone(), k.clone(), v.clone(), &bias, 0.0, &mut Dropout::off(), Scores::Discard);
            let q = q.autodiff().require_grad();
            let trained =
                attention(q, k.autodiff(), v.autodiff(), &bias, 0.0, &mut Dropout::off(), Scores::Discard);
            let (predicted, trained) = (values(predicted.context), values(trained.context));
            crate::test_support::assert_close(&predicted, &trained, 1e-6, "context");
        }
    }

    #[test]
    fn scores_that_no_loss_looks_at_change_no_gradient() {
        let inputs = [1, 2, 3].map(|seed| input([2, 2, 9, 8], seed));
        compare(1e-6, &inputs, &mut |x| {
            [Scores::Keep, Scores::Discard].map(|scores| {
                let [q, k, v] = [0, 1, 2].map(|i| x[i].shaped::<4>());
                attention(q, k, v, &AttentionBias::none(), 0.1, &mut Dropout::new(1, 2, 3), scores).context
            })
        });
    }
}
