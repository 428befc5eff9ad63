//! The configuration of a base model: what all architectures have in common.

use std::fmt;

use serde_json::{Map, Value};

use crate::Task;
use crate::model::Model;
use crate::weights::Weights;

/// Sizes of a network, as all architectures have them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Rows of the word embeddings.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the embeddings; that of the hidden states unless an architecture factorises them.
    pub embedding_size: usize,
    /// Layers; of an encoder-decoder those of both halves.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward half of a layer.
    pub intermediate_size: usize,
    /// The longest row in tokens; rows of the position table, less those that an architecture reserves.
    pub max_length: usize,
    /// First rows of the position table that no token has.
    pub reserved_positions: usize,
    /// The id of padding.
    pub pad_token_id: Option<u32>,
    /// Token types that the embeddings tell apart; 0 where there are none.
    pub type_vocab_size: usize,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

/// The configuration of a base model, which is all but the head: sizes, checked, ready to be built.
pub trait BaseModelConfig: fmt::Debug + Send + Sync {
    /// Sizes of the network.
    fn sizes(&self) -> Sizes;
    /// [`Sizes::vocab_size`].
    fn vocab_size(&self) -> usize {
        self.sizes().vocab_size
    }
    /// [`Sizes::hidden_size`].
    fn hidden_size(&self) -> usize {
        self.sizes().hidden_size
    }
    /// [`Sizes::embedding_size`].
    fn embedding_size(&self) -> usize {
        self.sizes().embedding_size
    }
    /// [`Sizes::num_hidden_layers`].
    fn num_hidden_layers(&self) -> usize {
        self.sizes().num_hidden_layers
    }
    /// [`Sizes::num_attention_heads`].
    fn num_attention_heads(&self) -> usize {
        self.sizes().num_attention_heads
    }
    /// [`Sizes::intermediate_size`].
    fn intermediate_size(&self) -> usize {
        self.sizes().intermediate_size
    }
    /// [`Sizes::max_length`].
    fn max_length(&self) -> usize {
        self.sizes().max_length
    }
    /// [`Sizes::reserved_positions`].
    fn reserved_positions(&self) -> usize {
        self.sizes().reserved_positions
    }
    /// [`Sizes::pad_token_id`].
    fn pad_token_id(&self) -> Option<u32> {
        self.sizes().pad_token_id
    }
    /// [`Sizes::type_vocab_size`].
    fn type_vocab_size(&self) -> usize {
        self.sizes().type_vocab_size
    }
    /// [`Sizes::initializer_range`].
    fn initializer_range(&self) -> f64 {
        self.sizes().initializer_range
    }
    /// About how many numbers the network has, the head left out: told from the sizes, before anything is made.
    fn approximate_parameters(&self) -> u64 {
        let Sizes { vocab_size, max_length, hidden_size, intermediate_size, num_hidden_layers, .. } =
            self.sizes();
        let [vocab, length, hidden, inner, layers] =
            [vocab_size, max_length, hidden_size, intermediate_size, num_hidden_layers]
                .map(|size| size as u64);
        // Sizes are at most 2^24 each.
        let layer = 4 * hidden * hidden + 2 * hidden * inner + 9 * hidden + inner;
        ((vocab + length) * hidden).saturating_add(layers.saturating_mul(layer))
    }
    /// The token that the target of an encoder-decoder begins with.
    fn decoder_start_token_id(&self) -> Option<u32> {
        None
    }
    /// Hugging Face's keys, `model_type` left out.
    fn to_json(&self) -> Map<String, Value>;
    /// Sets every dropout probability.
    fn set_dropout(&mut self, p: f64);
    /// Builds the network from `weights`.
    #[doc(hidden)]
    fn build(&self, task: &Task, weights: &Weights) -> Box<dyn Model>;
    /// A copy.
    fn clone_box(&self) -> Box<dyn BaseModelConfig>;
}
