//! ALBERT's configuration, under Hugging Face's keys.

use distill_ops::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ConfigError;
use crate::architecture::Vocabulary;
use crate::config::Checks;

/// The keys of `AlbertConfig` that decide about the network, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AlbertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) embedding_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_hidden_groups: usize,
    pub(crate) inner_group_num: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) hidden_act: String,
    pub(crate) hidden_dropout_prob: f64,
    pub(crate) attention_probs_dropout_prob: f64,
    pub(crate) classifier_dropout_prob: f64,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) initializer_range: f64,
    pub(crate) layer_norm_eps: f64,
    pub(crate) pad_token_id: Option<u32>,
    pub(crate) tie_word_embeddings: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position_embedding_type: Option<String>,
}

impl Default for AlbertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_000,
            embedding_size: 128,
            hidden_size: 4096,
            num_hidden_layers: 12,
            num_hidden_groups: 1,
            inner_group_num: 1,
            num_attention_heads: 64,
            intermediate_size: 16_384,
            hidden_act: "gelu_new".to_owned(),
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            classifier_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            tie_word_embeddings: true,
            position_embedding_type: None,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlbertScratch {
    /// Width of the embeddings; default 128.
    embedding_size: usize,
    /// Width of the hidden states, a multiple of `num_attention_heads`; default 256.
    hidden_size: usize,
    /// Encoder layers, which share their parameters; default 4.
    num_hidden_layers: usize,
    /// Attention heads of a layer; default 4.
    num_attention_heads: usize,
    /// Width inside the feed-forward half of a layer; default four times `hidden_size`.
    intermediate_size: Option<usize>,
    /// `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu`, `tanh` or `silu`; default `gelu_new`.
    hidden_act: String,
    /// Rows of the position table; default 512.
    max_position_embeddings: usize,
    /// Dropout of embeddings and layers, 0 to below 1; default 0.
    hidden_dropout_prob: f64,
    /// Dropout of attention weights, 0 to below 1; default 0.
    attention_probs_dropout_prob: f64,
    /// Added to the variance in layer norms, above 0; default 1e-12.
    layer_norm_eps: f64,
    /// Token types, at least 1; default 2.
    type_vocab_size: usize,
}

impl Default for AlbertScratch {
    fn default() -> Self {
        Self {
            embedding_size: 128,
            hidden_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            intermediate_size: None,
            hidden_act: "gelu_new".to_owned(),
            max_position_embeddings: 512,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            layer_norm_eps: 1e-12,
            type_vocab_size: 2,
        }
    }
}

impl AlbertScratch {
    pub(crate) fn into_config(self, vocabulary: Vocabulary) -> AlbertConfig {
        AlbertConfig {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            embedding_size: self.embedding_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size.unwrap_or(4 * self.hidden_size),
            hidden_act: self.hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: self.attention_probs_dropout_prob,
            layer_norm_eps: self.layer_norm_eps,
            type_vocab_size: self.type_vocab_size,
            ..AlbertConfig::default()
        }
    }
}

impl AlbertConfig {
    pub(crate) fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.heads("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads);
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("embedding_size", self.embedding_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_hidden_groups", self.num_hidden_groups),
            ("inner_group_num", self.inner_group_num),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            checks.positive(key, value);
        }
        if self.num_hidden_groups > self.num_hidden_layers {
            let expected = format!("must be at most `num_hidden_layers` ({})", self.num_hidden_layers);
            checks.fail(ConfigError::value("num_hidden_groups", self.num_hidden_groups, expected));
        }
        checks.activation("hidden_act", &self.hidden_act);
        checks.probability("hidden_dropout_prob", self.hidden_dropout_prob);
        checks.probability("attention_probs_dropout_prob", self.attention_probs_dropout_prob);
        checks.probability("classifier_dropout_prob", self.classifier_dropout_prob);
        checks.above_zero("layer_norm_eps", self.layer_norm_eps);
        checks.above_zero("initializer_range", self.initializer_range);
        checks.pad(self.pad_token_id, self.vocab_size);
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            checks.fail(ConfigError::value("position_embedding_type", kind, "must be `absolute`"));
        }
        if !self.tie_word_embeddings {
            checks.fail(ConfigError::value("tie_word_embeddings", false, "must be `true`"));
        }
        checks
    }

    pub(crate) fn activation(&self) -> Activation {
        // The name has been checked; the default only satisfies the type.
        self.hidden_act.parse().unwrap_or(Activation::GeluNew)
    }
}
