//! The layers that every architecture is made of, with the names and layouts of a checkpoint.

#![allow(non_snake_case)] // fields are named as in checkpoints: `lora_A`

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use distill_ops::{Activation, Addend, AttentionBias, Dropout, LowRank, attention};

use crate::layer_output::{Kept, Wanted};
use crate::logits::Logits;
use crate::lora::{LoraFactor, LoraSettings};
use crate::weights::{Init, Weights};

/// A dense layer: `weight` is `[out, in]`, or `[in, out]` for GPT-2's `Conv1D`, as it is stored; with a low-rank adapter
/// where one was asked for.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora_A: Option<LoraFactor>,
    lora_B: Option<LoraFactor>,
    #[module(skip)]
    lora: Option<LoraSettings>,
    #[module(skip)]
    layout: Layout,
}

/// Which way a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    OutIn,
    InOut,
}

/// Whether a dense layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bias {
    Learnt,
    None,
}

impl Linear {
    pub(crate) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Self {
        Self::of(weights, [inputs, outputs], Layout::OutIn, Init::Normal, Bias::Learnt)
    }

    pub(crate) fn without_bias(weights: &Weights, inputs: usize, outputs: usize) -> Self {
        Self::of(weights, [inputs, outputs], Layout::OutIn, Init::Normal, Bias::None)
    }

    /// The same with new weights of another spread.
    pub(crate) fn without_bias_from(weights: &Weights, inputs: usize, outputs: usize, init: Init) -> Self {
        Self::of(weights, [inputs, outputs], Layout::OutIn, init, Bias::None)
    }

    /// With or without, as a configuration says.
    pub(crate) fn with_optional_bias(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Self {
        if bias { Self::new(weights, inputs, outputs) } else { Self::without_bias(weights, inputs, outputs) }
    }

    /// GPT-2's `Conv1D`.
    pub(crate) fn in_out(weights: &Weights, inputs: usize, outputs: usize, init: Init) -> Self {
        Self::of(weights, [inputs, outputs], Layout::InOut, init, Bias::Learnt)
    }

    fn of(weights: &Weights, [inputs, outputs]: [usize; 2], layout: Layout, init: Init, bias: Bias) -> Self {
        let shape = match layout {
            Layout::OutIn => [outputs, inputs],
            Layout::InOut => [inputs, outputs],
        };
        let lora = weights.lora();
        let factor = |name, shape, init| {
            let weights = weights.adapter().child(name);
            LoraFactor { weight: weights.get("weight", shape, init) }
        };
        Self {
            weight: weights.get("weight", shape, init),
            bias: (bias == Bias::Learnt).then(|| weights.get("bias", [outputs], Init::Zeros)),
            lora_A: lora.map(|lora| factor("lora_A", [lora.r, inputs], Init::KaimingUniform)),
            lora_B: lora.map(|lora| factor("lora_B", [outputs, lora.r], Init::Zeros)),
            lora,
            layout,
        }
    }

    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>, dropout: &mut Dropout) -> Tensor<D> {
        self.forward_onto(Addend::bias(self.bias()), x, dropout)
    }

    /// The sum with `residual`.
    pub(crate) fn forward_sum<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Tensor<D>,
        dropout: &mut Dropout,
    ) -> Tensor<D> {
        if self.bias.is_some() {
            return residual + self.forward(x, dropout);
        }
        self.forward_onto(Addend::Residual(residual), x, dropout)
    }

    /// Without the bias, onto `addend`.
    fn forward_onto<const D: usize>(
        &self,
        addend: Addend<D>,
        x: Tensor<D>,
        dropout: &mut Dropout,
    ) -> Tensor<D> {
        let Some((a, b, lora)) = self.adapter() else { return self.base(addend, x) };
        if lora.dropout > 0.0 {
            let y = self.base(addend, x.clone());
            return y + lora.forward(x, a, b, dropout);
        }
        let x = dropout.apply(x, lora.dropout);
        let adapter = LowRank { a: a.weight.val(), b: b.weight.val(), scaling: lora.scaling };
        match self.layout {
            Layout::OutIn => distill_ops::low_rank_linear(x, self.weight.val(), addend, adapter),
            Layout::InOut => distill_ops::low_rank_linear_in_out(x, self.weight.val(), addend, adapter),
        }
    }

    /// Of `activation(x)`.
    pub(crate) fn forward_activated<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: Activation,
        dropout: &mut Dropout,
    ) -> Tensor<D> {
        if self.lora.is_some() || self.layout == Layout::InOut {
            return self.forward(activation.forward(x), dropout);
        }
        distill_ops::activation_linear(x, activation, self.weight.val(), self.bias())
    }

    /// Without the adapter.
    fn base<const D: usize>(&self, addend: Addend<D>, x: Tensor<D>) -> Tensor<D> {
        match self.layout {
            Layout::OutIn => distill_ops::linear_onto(x, self.weight.val(), addend),
            Layout::InOut => distill_ops::linear_onto_in_out(x, self.weight.val(), addend),
        }
    }

    /// As the output layer over a vocabulary: its logits, computed only where somebody looks at all of them.
    pub(crate) fn logits(&self, hidden: Tensor<3>, dropout: &mut Dropout) -> Logits {
        if self.lora.is_some() || self.layout == Layout::InOut {
            let [batch, seq, width] = hidden.dims();
            return Logits::computed(self.forward(hidden.reshape([batch * seq, width]), dropout));
        }
        Logits::of_hidden(hidden, self.weight.val(), self.bias())
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    fn adapter(&self) -> Option<(&LoraFactor, &LoraFactor, LoraSettings)> {
        Some((self.lora_A.as_ref()?, self.lora_B.as_ref()?, self.lora?))
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

/// Root mean square normalisation with a scale.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(weights: &Weights, size: usize, eps: f64) -> Self {
        Self { weight: weights.get("weight", [size], Init::Ones), eps }
    }

    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        distill_ops::rms_norm(x, self.weight.val(), self.eps)
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

    /// The same with new rows of another spread.
    pub(crate) fn with_init(weights: &Weights, rows: usize, width: usize, init: Init) -> Self {
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
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, seq, hidden] = x.dims();
    x.reshape([batch, seq, heads, hidden / heads]).swap_dims(1, 2)
}

/// The reverse of [`split_heads`].
pub(crate) fn join_heads(x: Tensor<4>) -> Tensor<3> {
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
