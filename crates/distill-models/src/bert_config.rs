//! The configuration that BERT and RoBERTa share, under Hugging Face's keys.

use distill_ops::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;
use crate::architecture::Vocabulary;
use crate::bert_encoder::EncoderSizes;
use crate::config::{Checks, json_object};

/// The keys of `BertConfig` and `RobertaConfig` that decide about the network; the defaults are `BertConfig`'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) hidden_act: String,
    pub(crate) hidden_dropout_prob: f64,
    pub(crate) attention_probs_dropout_prob: f64,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) initializer_range: f64,
    pub(crate) layer_norm_eps: f64,
    pub(crate) pad_token_id: Option<u32>,
    pub(crate) classifier_dropout: Option<f64>,
    pub(crate) tie_word_embeddings: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position_embedding_type: Option<String>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            classifier_dropout: None,
            tie_word_embeddings: true,
            position_embedding_type: None,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BertScratch {
    /// Width of the hidden states, a multiple of `num_attention_heads`; default 256.
    hidden_size: usize,
    /// Encoder layers; default 4.
    num_hidden_layers: usize,
    /// Attention heads of a layer; default 4.
    num_attention_heads: usize,
    /// Width inside the feed-forward half of a layer; default four times `hidden_size`.
    intermediate_size: Option<usize>,
    /// `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu`, `tanh` or `silu`; default `gelu`.
    hidden_act: String,
    /// Rows of the position table; RoBERTa reserves `pad_token_id + 1` of them; default 512.
    max_position_embeddings: usize,
    /// Dropout of embeddings and layers, 0 to below 1; default 0.1.
    hidden_dropout_prob: f64,
    /// Dropout of attention weights, 0 to below 1; default 0.1.
    attention_probs_dropout_prob: f64,
    /// Added to the variance in layer norms, above 0; default 1e-12.
    layer_norm_eps: f64,
    /// Token types, at least 1; default 2, for RoBERTa 1.
    type_vocab_size: Option<usize>,
}

impl Default for BertScratch {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            intermediate_size: None,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 512,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            layer_norm_eps: 1e-12,
            type_vocab_size: None,
        }
    }
}

impl BertScratch {
    /// The whole configuration; `type_vocab_size` is the architecture's default.
    pub(crate) fn into_config(self, vocabulary: Vocabulary, type_vocab_size: usize) -> BertConfig {
        BertConfig {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size.unwrap_or(4 * self.hidden_size),
            hidden_act: self.hidden_act,
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: self.attention_probs_dropout_prob,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size.unwrap_or(type_vocab_size),
            layer_norm_eps: self.layer_norm_eps,
            ..BertConfig::default()
        }
    }
}

impl BertConfig {
    pub(crate) fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.heads("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads);
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            checks.positive(key, value);
        }
        checks.activation("hidden_act", &self.hidden_act);
        checks.probability("hidden_dropout_prob", self.hidden_dropout_prob);
        checks.probability("attention_probs_dropout_prob", self.attention_probs_dropout_prob);
        if let Some(p) = self.classifier_dropout {
            checks.probability("classifier_dropout", p);
        }
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

    pub(crate) fn encoder(&self) -> EncoderSizes {
        EncoderSizes {
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            // The name has been checked; the default only satisfies the type.
            hidden_act: self.hidden_act.parse().unwrap_or(Activation::Gelu),
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: self.attention_probs_dropout_prob,
            layer_norm_eps: self.layer_norm_eps,
        }
    }

    /// The dropout before the classifier.
    pub(crate) fn head_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    pub(crate) fn set_dropout(&mut self, p: f64) {
        self.hidden_dropout_prob = p;
        self.attention_probs_dropout_prob = p;
        self.classifier_dropout = Some(p);
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        json_object(self)
    }
}
