//! The encoder that BERT and RoBERTa share; Devlin et al. 2018, §3 (arXiv:1810.04805).
//!
//! Follows `BertEncoder`, `BertLayer`, `BertSelfAttention`, `BertSelfOutput`, `BertIntermediate` and `BertOutput` in
//! Transformers' `models/bert/modeling_bert.py`.

#![allow(non_snake_case)] // fields are named as in checkpoints: `LayerNorm`

use burn::module::Module;
use burn::tensor::Tensor;
use distill_ops::{Activation, AttentionBias, Dropout};

use crate::layer_output::{Kept, LayerOutput, Wanted};
use crate::layers::{LayerNorm, Linear, self_attention};
use crate::weights::Weights;

/// The numbers that one encoder needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncoderSizes {
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) hidden_act: Activation,
    pub(crate) hidden_dropout_prob: f64,
    pub(crate) attention_probs_dropout_prob: f64,
    pub(crate) layer_norm_eps: f64,
}

/// A stack of layers, `encoder.layer.N` in a checkpoint.
#[derive(Module, Debug)]
pub(crate) struct BertEncoder {
    layer: Vec<BertLayer>,
}

impl BertEncoder {
    pub(crate) fn new(weights: &Weights, sizes: EncoderSizes) -> Self {
        let layer = |n: usize| BertLayer::new(&weights.child(&format!("layer.{n}")), sizes);
        Self { layer: (0..sizes.num_hidden_layers).map(layer).collect() }
    }

    pub(crate) fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        self.layer[n].forward(hidden, wanted, bias, dropout)
    }

    pub(crate) fn num_hidden_layers(&self) -> usize {
        self.layer.len()
    }
}

#[derive(Module, Debug)]
struct BertLayer {
    attention: BertAttention,
    intermediate: BertIntermediate,
    output: BertOutput,
    #[module(skip)]
    hidden_act: Activation,
}

impl BertLayer {
    fn new(weights: &Weights, sizes: EncoderSizes) -> Self {
        let EncoderSizes { hidden_size, intermediate_size, .. } = sizes;
        Self {
            attention: BertAttention {
                self_: BertSelfAttention::new(&weights.child("attention.self"), sizes),
                output: BertOutput::new(&weights.child("attention.output"), hidden_size, sizes),
            },
            intermediate: BertIntermediate {
                dense: Linear::new(&weights.child("intermediate.dense"), hidden_size, intermediate_size),
            },
            output: BertOutput::new(&weights.child("output"), intermediate_size, sizes),
            hidden_act: sizes.hidden_act,
        }
    }

    fn forward(
        &self,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let residual = wanted.tokens.of(&hidden);
        let queried = wanted.queried(&hidden, &residual);
        let (context, kept) = self.attention.self_.forward(queried, hidden, wanted, bias, dropout);
        let output = &self.attention.output;
        let attended = output.finish(output.dense.forward(context, dropout), residual, dropout);
        let inner = self.intermediate.dense.forward(attended.clone(), dropout);
        let output = self.output.dense.forward_activated(inner, self.hidden_act, dropout);
        LayerOutput { hidden: self.output.finish(output, attended, dropout), kept }
    }
}

#[derive(Module, Debug)]
struct BertAttention {
    self_: BertSelfAttention,
    output: BertOutput,
}

#[derive(Module, Debug)]
struct BertIntermediate {
    dense: Linear,
}

#[derive(Module, Debug)]
struct BertSelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    #[module(skip)]
    num_attention_heads: usize,
    #[module(skip)]
    attention_probs_dropout_prob: f64,
}

impl BertSelfAttention {
    fn new(weights: &Weights, sizes: EncoderSizes) -> Self {
        let linear = |name| Linear::new(&weights.child(name), sizes.hidden_size, sizes.hidden_size);
        Self {
            query: linear("query"),
            key: linear("key"),
            value: linear("value"),
            num_attention_heads: sizes.num_attention_heads,
            attention_probs_dropout_prob: sizes.attention_probs_dropout_prob,
        }
    }

    fn forward(
        &self,
        queried: Tensor<3>,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> (Tensor<3>, Kept) {
        let projected = [
            self.query.forward(queried, dropout),
            self.key.forward(hidden.clone(), dropout),
            self.value.forward(hidden, dropout),
        ];
        let dropout_p = self.attention_probs_dropout_prob;
        self_attention(projected, self.num_attention_heads, wanted, bias, dropout_p, dropout)
    }
}

/// Dense, dropout, sum, norm: `BertSelfOutput` and `BertOutput`, which differ in the width of their input.
#[derive(Module, Debug)]
struct BertOutput {
    dense: Linear,
    LayerNorm: LayerNorm,
    #[module(skip)]
    hidden_dropout_prob: f64,
}

impl BertOutput {
    fn new(weights: &Weights, inputs: usize, sizes: EncoderSizes) -> Self {
        Self {
            dense: Linear::new(&weights.child("dense"), inputs, sizes.hidden_size),
            LayerNorm: LayerNorm::new(&weights.child("LayerNorm"), sizes.hidden_size, sizes.layer_norm_eps),
            hidden_dropout_prob: sizes.hidden_dropout_prob,
        }
    }

    /// All that comes after `dense`.
    fn finish(&self, x: Tensor<3>, residual: Tensor<3>, dropout: &mut Dropout) -> Tensor<3> {
        self.LayerNorm.forward_dropout_sum(x, self.hidden_dropout_prob, dropout, residual)
    }
}

/// The depth of a parameter below `base`: embeddings 0, `base.LAYERS.N.` is N + 1.
pub(crate) fn depth(name: &str, embeddings: &str, layers: &str) -> Option<usize> {
    if name.starts_with(embeddings) {
        return Some(0);
    }
    let number = name.strip_prefix(layers)?.split('.').next()?;
    number.parse::<usize>().ok().map(|n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_embeddings_as_zero() {
        let of = |name| depth(name, "bert.embeddings.", "bert.encoder.layer.");
        assert_eq!(of("bert.embeddings.LayerNorm.weight"), Some(0));
        assert_eq!(of("bert.encoder.layer.10.output.dense.bias"), Some(11));
        assert_eq!(of("bert.pooler.dense.bias"), None);
        assert_eq!(of("classifier.weight"), None);
    }
}
