//! The layers of T5: attention with classes of distances, and what is between; Raffel et al. 2019 (arXiv:1910.10683).

#![allow(non_snake_case)] // fields are named as in checkpoints: `SelfAttention`

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use distill_ops::{AttentionBias, Dropout, Scores, scaled_attention};

use crate::causal_lm::with_earlier;
use crate::layer_context::LayerContext;
use crate::layer_output::Tokens;
use crate::layers::{Embedding, Linear, RmsNorm, join_heads, split_heads};
use crate::t5_config::{FeedForward, T5Config};
use crate::weights::{Init, Weights};

/// Which of the two stacks of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Encoder,
    Decoder,
}

/// The norm of a layer, or of a stack.
pub(crate) fn norm(weights: &Weights, config: &T5Config) -> RmsNorm {
    RmsNorm::new(weights, config.d_model, config.layer_norm_epsilon)
}

/// The parts of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    SelfAttention,
    CrossAttention,
    FeedForward,
}

/// Attention, in the decoder attention to the encoder, and feed-forward, in this order.
#[derive(Module, Debug)]
pub(crate) struct T5Block {
    layer: Vec<T5Layer>,
    #[module(skip)]
    dropout_rate: f64,
}

/// One of them with its norm; the names of the others stay empty.
#[derive(Module, Debug)]
struct T5Layer {
    SelfAttention: Option<T5Attention>,
    EncDecAttention: Option<T5Attention>,
    DenseReluDense: Option<T5Dense>,
    layer_norm: RmsNorm,
}

impl T5Block {
    pub(crate) fn new(weights: &Weights, n: usize, config: &T5Config, half: Half) -> Self {
        let parts: &[Part] = match half {
            Half::Encoder => &[Part::SelfAttention, Part::FeedForward],
            Half::Decoder => &[Part::SelfAttention, Part::CrossAttention, Part::FeedForward],
        };
        let layer = |(number, part): (usize, &Part)| {
            let weights = weights.child(&format!("layer.{number}"));
            let attention = |name, distances| T5Attention::new(&weights.child(name), config, distances);
            T5Layer {
                SelfAttention: (*part == Part::SelfAttention).then(|| attention("SelfAttention", n == 0)),
                EncDecAttention: (*part == Part::CrossAttention).then(|| attention("EncDecAttention", false)),
                DenseReluDense: (*part == Part::FeedForward)
                    .then(|| T5Dense::new(&weights.child("DenseReluDense"), config)),
                layer_norm: norm(&weights.child("layer_norm"), config),
            }
        };
        Self { layer: parts.iter().enumerate().map(layer).collect(), dropout_rate: config.dropout_rate }
    }

    /// Within the sequence.
    pub(crate) fn attention(&self) -> &T5Attention {
        match self.layer.first().and_then(|layer| layer.SelfAttention.as_ref()) {
            Some(attention) => attention,
            None => unreachable!("every block begins with attention"),
        }
    }

    pub(crate) fn self_attention(
        &self,
        n: usize,
        hidden: Tensor<3>,
        tokens: Tokens,
        bias: &AttentionBias,
        cached: Option<&LayerContext<'_>>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let attention = self.attention();
        let residual = tokens.of(&hidden);
        let normed = self.layer[0].layer_norm.forward(hidden);
        let queries = attention.q.forward(tokens.of(&normed), dropout);
        let [k, v] = attention.keys_values(normed, dropout);
        let [k, v] = match cached {
            Some(context) => with_earlier(n, k, v, context),
            None => [k.swap_dims(1, 2), v.swap_dims(1, 2)],
        };
        let attended = attention.attend(queries, [k, v], bias, dropout);
        residual + dropout.apply(attended, self.dropout_rate)
    }

    pub(crate) fn cross_attention(
        &self,
        n: usize,
        hidden: Tensor<3>,
        source: Tensor<3>,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let layer =
            self.layer.iter().find_map(|layer| Some((layer.EncDecAttention.as_ref()?, &layer.layer_norm)));
        let Some((attention, layer_norm)) = layer else { return hidden };
        let queries = attention.q.forward(layer_norm.forward(hidden.clone()), dropout);
        let of_source = || attention.keys_values(source, dropout).map(|x| x.swap_dims(1, 2));
        let keys_values = match context.cache {
            Some(cache) => cache.borrow_mut().cross(n, of_source),
            None => of_source(),
        };
        let attended = attention.attend(queries, keys_values, &context.bias, dropout);
        hidden + dropout.apply(attended, self.dropout_rate)
    }

    pub(crate) fn feed_forward(&self, hidden: Tensor<3>, dropout: &mut Dropout) -> Tensor<3> {
        let layer =
            self.layer.iter().find_map(|layer| Some((layer.DenseReluDense.as_ref()?, &layer.layer_norm)));
        let Some((dense, layer_norm)) = layer else { return hidden };
        let inner = dense.forward(layer_norm.forward(hidden.clone()), dropout);
        hidden + dropout.apply(inner, self.dropout_rate)
    }
}

#[derive(Module, Debug)]
pub(crate) struct T5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    relative_attention_bias: Option<Embedding>,
    #[module(skip)]
    num_heads: usize,
    #[module(skip)]
    buckets: Buckets,
    #[module(skip)]
    dropout_rate: f64,
}

impl T5Attention {
    fn new(weights: &Weights, config: &T5Config, distances: bool) -> Self {
        let (width, inner, factor) =
            (config.d_model, config.num_heads * config.d_kv, config.initializer_factor);
        let linear = |name, inputs: usize, outputs, fan: usize| {
            let init = Init::NormalOf(factor * (fan as f64).sqrt().recip());
            Linear::without_bias_from(&weights.child(name), inputs, outputs, init)
        };
        let table = || {
            let init = Init::NormalOf(factor * (width as f64).sqrt().recip());
            let rows = config.relative_attention_num_buckets;
            Embedding::with_init(&weights.child("relative_attention_bias"), rows, config.num_heads, init)
        };
        Self {
            q: linear("q", width, inner, width * config.d_kv),
            k: linear("k", width, inner, width),
            v: linear("v", width, inner, width),
            o: linear("o", inner, width, inner),
            relative_attention_bias: distances.then(table),
            num_heads: config.num_heads,
            buckets: Buckets {
                count: config.relative_attention_num_buckets,
                max_distance: config.relative_attention_max_distance,
            },
            dropout_rate: config.dropout_rate,
        }
    }

    /// `[batch, seq, heads, head_size]` each.
    fn keys_values(&self, x: Tensor<3>, dropout: &mut Dropout) -> [Tensor<4>; 2] {
        [self.k.forward(x.clone(), dropout), self.v.forward(x, dropout)]
            .map(|x| split_heads(x, self.num_heads).swap_dims(1, 2))
    }

    fn attend(
        &self,
        queries: Tensor<3>,
        [k, v]: [Tensor<4>; 2],
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let q = split_heads(queries, self.num_heads);
        let out = scaled_attention(q, k, v, 1.0, bias, self.dropout_rate, dropout, Scores::Discard);
        self.o.forward(join_heads(out.context), dropout)
    }

    /// `[1, heads, q_len, k_len]`, the queries being the last of the tokens.
    pub(crate) fn position_bias(&self, half: Half, [q_len, k_len]: [usize; 2]) -> Tensor<4> {
        let Some(table) = &self.relative_attention_bias else {
            unreachable!("a half asks its first layer, which has the table");
        };
        let before = k_len - q_len;
        let ids: Vec<i64> = (0..q_len)
            .flat_map(|query| (0..k_len).map(move |key| (key as i64) - (query + before) as i64))
            .map(|distance| self.buckets.of(distance, half == Half::Encoder) as i64)
            .collect();
        let device = table.table().device().without_autodiff();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [q_len, k_len]), &device);
        table.forward(ids).permute([2, 0, 1]).unsqueeze()
    }
}

/// Distances between tokens in classes: one each for short ones, wider and wider ones up to the longest.
#[derive(Debug, Clone, Copy)]
struct Buckets {
    count: usize,
    max_distance: usize,
}

impl Buckets {
    /// The class of `key − query`; the encoder tells before from behind.
    fn of(self, distance: i64, both_ways: bool) -> usize {
        let (count, offset) = match both_ways {
            true => (self.count / 2, if distance > 0 { self.count / 2 } else { 0 }),
            false => (self.count, 0),
        };
        let distance =
            if both_ways { distance.unsigned_abs() } else { distance.min(0).unsigned_abs() } as usize;
        let exact = count / 2;
        if distance < exact {
            return offset + distance;
        }
        // In f32, as the reference has it: some distances stand on the border of a class.
        let ratio =
            (distance as f32 / exact as f32).ln() / (self.max_distance as f64 / exact as f64).ln() as f32;
        let wide = exact + (ratio * (count - exact) as f32) as usize;
        offset + wide.min(count - 1)
    }
}

#[derive(Module, Debug)]
struct T5Dense {
    wi: Option<Linear>,
    wi_0: Option<Linear>,
    wi_1: Option<Linear>,
    wo: Linear,
    #[module(skip)]
    kind: FeedForward,
    #[module(skip)]
    dropout_rate: f64,
}

impl T5Dense {
    fn new(weights: &Weights, config: &T5Config) -> Self {
        let (width, inner, kind) = (config.d_model, config.d_ff, config.feed_forward());
        let linear = |name, inputs: usize, outputs| {
            let init = Init::NormalOf(config.initializer_factor * (inputs as f64).sqrt().recip());
            Linear::without_bias_from(&weights.child(name), inputs, outputs, init)
        };
        let (one, two) = (!kind.gated, kind.gated);
        Self {
            wi: one.then(|| linear("wi", width, inner)),
            wi_0: two.then(|| linear("wi_0", width, inner)),
            wi_1: two.then(|| linear("wi_1", width, inner)),
            wo: linear("wo", inner, width),
            kind,
            dropout_rate: config.dropout_rate,
        }
    }

    fn forward(&self, x: Tensor<3>, dropout: &mut Dropout) -> Tensor<3> {
        let activation = self.kind.activation;
        let inner = match (&self.wi, &self.wi_0, &self.wi_1) {
            (Some(wi), _, _) => activation.forward(wi.forward(x, dropout)),
            (None, Some(gate), Some(up)) => {
                activation.forward(gate.forward(x.clone(), dropout)) * up.forward(x, dropout)
            }
            _ => unreachable!("a layer has one matrix or two"),
        };
        self.wo.forward(dropout.apply(inner, self.dropout_rate), dropout)
    }
}
