//! What a forward pass wants of one layer, and what the layer hands out.

use burn::tensor::Tensor;
use distill_ops::Scores;

/// Which tokens of a layer's output are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    All,
    First,
    /// What a text is continued from.
    Last,
}

impl Tokens {
    /// Their hidden states: `[batch, seq or 1, hidden]`.
    pub(crate) fn of(self, hidden: &Tensor<3>) -> Tensor<3> {
        match self {
            Self::All => hidden.clone(),
            Self::First => hidden.clone().narrow(1, 0, 1),
            Self::Last => hidden.clone().narrow(1, hidden.dims()[1] - 1, 1),
        }
    }

    /// The same of queries, `[batch, seq, heads, head_size]`.
    pub(crate) fn of_heads(self, queries: Tensor<4>) -> Tensor<4> {
        let last = queries.dims()[1] - 1;
        match self {
            Self::All => queries,
            Self::First => queries.narrow(1, 0, 1),
            Self::Last => queries.narrow(1, last, 1),
        }
    }
}

/// What is wanted of a layer; with scores, all tokens are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Of its output. Keys and values are those of all tokens in any case.
    pub(crate) tokens: Tokens,
    pub(crate) scores: Scores,
    pub(crate) queries_keys_values: bool,
}

impl Wanted {
    /// The hidden states, and nothing else.
    pub(crate) const ALL_TOKENS: Self =
        Self { tokens: Tokens::All, scores: Scores::Discard, queries_keys_values: false };

    /// What queries are made of: all of `hidden` where queries are handed out, else only what is attended from, the
    /// [`tokens`](Self::tokens).
    pub(crate) fn queried(self, hidden: &Tensor<3>, tokens: &Tensor<3>) -> Tensor<3> {
        if self.queries_keys_values { hidden.clone() } else { tokens.clone() }
    }
}

/// What a layer returns.
pub(crate) struct LayerOutput {
    /// `[batch, seq, hidden]`, or the first token alone.
    pub(crate) hidden: Tensor<3>,
    pub(crate) kept: Kept,
}

/// What a layer computed on its way; where asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// `[batch, heads, seq, seq]`.
    pub(crate) scores: Option<Tensor<4>>,
    /// `[batch, seq, hidden]` each.
    pub(crate) queries_keys_values: Option<[Tensor<3>; 3]>,
}
