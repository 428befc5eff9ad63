//! Scaled dot-product attention; Vaswani et al. 2017, §3.2.1 (arXiv:1706.03762).

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, activation};

use crate::Dropout;

/// Added to the score of a padded key: its weight after softmax is exactly zero, and a row whose keys are all padded
/// still has finite weights.
const MASKED: f32 = -1e9;

/// What happens to the scores before the softmax: which keys a query may see, and what is added.
#[derive(Debug, Clone, Default)]
pub struct AttentionBias {
    padding: Option<Padding>,
    causal: bool,
    bias: Option<Tensor<4>>,
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
        if !self.causal {
            return scores;
        }
        let hidden = |cell: usize| cell % k_len + q_len > cell / k_len + k_len;
        let added: Vec<f32> =
            (0..q_len * k_len).map(|cell| if hidden(cell) { f32::NEG_INFINITY } else { 0.0 }).collect();
        scores + Tensor::from_data(TensorData::new(added, [1, 1, q_len, k_len]), &device)
    }
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
        let kept = (scores == Scores::Keep)
            .then(|| plain_scores(q.clone(), shared_heads(k.clone(), q.dims()[1]), scale));
        let context = fused::attention(q, k, v, scale, bias, dropout.next(dropout_p));
        return AttentionOutput { context, scores: kept };
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
    let raw = plain_scores(q, k, scale);
    let kept = (scores == Scores::Keep).then(|| raw.clone());
    let weights = dropout.apply_by_rows(activation::softmax(bias.add_to(raw), 3), dropout_p);
    AttentionOutput { context: weights.matmul(v), scores: kept }
}

/// `scale · q · kᵀ`.
fn plain_scores(q: Tensor<4>, k: Tensor<4>, scale: f64) -> Tensor<4> {
    // Scaling the queries touches fewer numbers than scaling the scores.
    (q * scale).matmul(k.transpose())
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
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;

    use super::{AttentionBias, Scores};
    use crate::flex_op::{FlexOp, apply3, apply4, dims, in_order, tensor_of, values};
    use crate::kernels::{
        AttentionArgs, AttentionForward, AttentionGradientArgs, AttentionShape, HeadRows, RandomMask,
        ScoreBias, attention as attention_kernel, attention_backward,
    };
    use crate::precision::{Precision, precision};

    pub(super) fn attention(
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        scale: f64,
        bias: &AttentionBias,
        dropout: Option<RandomMask>,
    ) -> Tensor<4> {
        let op = Attention {
            scale: scale as f32,
            attention_mask: bias.padding.as_ref().map(|padding| padding.attention_mask.clone()),
            causal: bias.causal,
            dropout,
            precision: precision(),
        };
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
                bias: bias.map(|bias| {
                    let [batch, heads] = [0, 1].map(|axis| dims(bias)[axis]);
                    ScoreBias { values: values(bias), batch, heads }
                }),
                dropout: self.dropout,
                precision: self.precision,
            }
        }

        fn forward(&self, inputs: [FlexTensor; 3], bias: Option<FlexTensor>) -> (FlexTensor, Saved) {
            let (inputs, bias) = (inputs.map(by_rows), bias.map(in_order));
            let arguments = self.arguments(inputs.each_ref(), bias.as_ref());
            let AttentionShape { batch, heads, q_len, head_size, .. } = arguments.shape;
            let AttentionForward { context, lse, .. } = attention_kernel(&arguments, Scores::Discard);
            let context = tensor_of(context, [batch, q_len, heads, head_size]);
            (context.permute(&[0, 2, 1, 3]), Saved { inputs, bias, context, lse })
        }

        /// The gradients of `q`, `k`, `v` and of the bias.
        fn backward(
            &self,
            saved: Saved,
            grad: FlexTensor,
            bias_wanted: bool,
        ) -> ([FlexTensor; 3], Option<FlexTensor>) {
            let Saved { inputs, bias, context, lse } = saved;
            let grad = by_rows(grad);
            let arguments = self.arguments(inputs.each_ref(), bias.as_ref());
            let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = arguments.shape;
            let found = attention_backward(
                &arguments,
                &AttentionGradientArgs {
                    dcontext: head_rows(&grad),
                    context: values(&context),
                    lse: &lse,
                    dscores: None,
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
            self.forward(inputs, None)
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
            self.backward(saved, grad, false).0.map(Some)
        }
    }

    impl FlexOp<4> for Attention {
        type Saved = Saved;

        fn forward(&self, [q, k, v, bias]: [FlexTensor; 4]) -> (FlexTensor, Saved) {
            self.forward([q, k, v], Some(bias))
        }

        fn backward(&self, saved: Saved, grad: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
            let ([dq, dk, dv], dbias) = self.backward(saved, grad, wanted[3]);
            [Some(dq), Some(dk), Some(dv), dbias]
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

    /// Both bodies of the same call, with queries, keys, values and perhaps a bias as leaves.
    fn both(x: &[Input], bias: &AttentionBias, dropout_p: f64) -> [Tensor<4>; 2] {
        let bias = match x.get(3) {
            Some(added) => bias.clone().with_bias(added.shaped()),
            None => bias.clone(),
        };
        let dropout = || Dropout::new(1, 2, 3);
        let [q, k, v] = [0, 1, 2].map(|i| x[i].shaped::<4>());
        let fused =
            attention(q.clone(), k.clone(), v.clone(), &bias, dropout_p, &mut dropout(), Scores::Discard);
        let scale = (q.dims()[3] as f64).sqrt().recip();
        let plain = plain(q, k, v, scale, &bias, dropout_p, &mut dropout(), Scores::Discard);
        [fused.context, plain.context]
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
            for bias in
                [AttentionBias::none(), padded.clone(), AttentionBias::none().causal(), padded.causal()]
            {
                for dropout_p in [0.0, 0.3] {
                    compare(2e-5, &[q.clone(), k.clone(), v.clone()], &mut |x| both(x, &bias, dropout_p));
                }
            }
            let added = input([1, heads, q_len, k_len], 4);
            compare(2e-5, &[q, k, v, added], &mut |x| both(x, &AttentionBias::none(), 0.1));
        }
    }
}
