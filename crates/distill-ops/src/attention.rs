//! Scaled dot-product attention; Vaswani et al. 2017, §3.2.1 (arXiv:1706.03762).

#[cfg(feature = "flex")]
mod fused;

use burn::tensor::{Tensor, activation};

use crate::{AttentionBias, Dropout};

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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

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
            let added: Vec<f32> = cells.map(|same| if same { 0.0 } else { -1e9 }).collect();
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
