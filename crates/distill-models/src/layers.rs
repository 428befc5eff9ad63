//! The layers that every architecture is made of, with the names and layouts of a checkpoint.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use distill_ops::{Activation, AttentionBias, Dropout, attention};

use crate::layer_output::{Kept, Wanted};
use crate::weights::{Init, Weights};

/// A dense layer: `weight` is `[out, in]`, as it is stored.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    pub(crate) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Self {
        Self {
            weight: weights.get("weight", [outputs, inputs], Init::Normal),
            bias: weights.get("bias", [outputs], Init::Zeros),
        }
    }

    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        distill_ops::linear(x, self.weight.val(), Some(self.bias.val()))
    }

    /// Of `activation(x)`.
    pub(crate) fn forward_activated<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: Activation,
    ) -> Tensor<D> {
        distill_ops::activation_linear(x, activation, self.weight.val(), Some(self.bias.val()))
    }
}

/// Layer normalisation with scale and shift.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(weights: &Weights, size: usize, eps: f64) -> Self {
        Self {
            weight: weights.get("weight", [size], Init::Ones),
            bias: weights.get("bias", [size], Init::Zeros),
            eps,
        }
    }

    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        distill_ops::layer_norm(x, self.weight.val(), self.bias.val(), self.eps)
    }

    /// Of the sum `x + residual`.
    pub(crate) fn forward_sum<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        distill_ops::add_layer_norm(x, residual, self.weight.val(), self.bias.val(), self.eps)
    }

    /// Of the sum `dropout(x) + residual`.
    pub(crate) fn forward_dropout_sum<const D: usize>(
        &self,
        x: Tensor<D>,
        dropout_p: f64,
        dropout: &mut Dropout,
        residual: Tensor<D>,
    ) -> Tensor<D> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        distill_ops::dropout_add_layer_norm(x, dropout_p, dropout, residual, weight, bias, self.eps)
    }
}

/// A table of rows.
#[derive(Module, Debug)]
pub(crate) struct Embedding {
    weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A new table has zeros in the row of `padding`.
    pub(crate) fn new(weights: &Weights, rows: usize, width: usize, padding: Option<u32>) -> Self {
        let init = padding.map_or(Init::Normal, |row| Init::NormalExceptRow(row as usize));
        Self { weight: weights.get("weight", [rows, width], init) }
    }

    /// `[batch, seq]` to `[batch, seq, width]`.
    pub(crate) fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        distill_ops::embedding(self.weight.val(), ids)
    }

    /// The first `count` rows, the same for every row of the batch: `[1, count, width]`.
    pub(crate) fn first_rows(&self, count: usize) -> Tensor<3> {
        self.weight.val().narrow(0, 0, count).unsqueeze()
    }

    /// The whole table, for a tied output layer.
    pub(crate) fn table(&self) -> Tensor<2> {
        self.weight.val()
    }
}

/// `[batch, seq, heads · size]` to `[batch, heads, seq, size]`.
fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, seq, hidden] = x.dims();
    x.reshape([batch, seq, heads, hidden / heads]).swap_dims(1, 2)
}

/// The reverse of [`split_heads`].
fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, seq, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch, seq, heads * size])
}

/// The context that projected queries, keys and values make, `[batch, seq, hidden]` of the tokens that are wanted, and
/// what of all that is to be kept. Queries are made of [`Wanted::queried`].
pub(crate) fn self_attention(
    projected: [Tensor<3>; 3],
    num_attention_heads: usize,
    wanted: Wanted,
    bias: &AttentionBias,
    dropout_p: f64,
    dropout: &mut Dropout,
) -> (Tensor<3>, Kept) {
    let queries_keys_values = wanted.queries_keys_values.then(|| projected.clone());
    let [q, k, v] = projected;
    let q = if wanted.queries_keys_values { wanted.tokens.of(&q) } else { q };
    let [q, k, v] = [q, k, v].map(|x| split_heads(x, num_attention_heads));
    let out = attention(q, k, v, bias, dropout_p, dropout, wanted.scores);
    (join_heads(out.context), Kept { scores: out.scores, queries_keys_values })
}

/// The hidden state of every row's first token: `[batch, hidden]`.
pub(crate) fn first_token(x: Tensor<3>) -> Tensor<2> {
    let [batch, _, hidden] = x.dims();
    x.narrow(1, 0, 1).reshape([batch, hidden])
}

/// The logits of every token over the vocabulary, by the transposed word embeddings: `[batch · seq, vocab]`.
pub(crate) fn tied_logits(x: Tensor<3>, table: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    distill_ops::linear(x.reshape([batch * seq, width]), table, Some(bias))
}
