//! The configuration that Llama and Qwen2 share, under Hugging Face's keys.

use distill_ops::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;
use crate::architecture::Vocabulary;
use crate::config::{Checks, json_object, read_keys};
use crate::rotary_embedding::{RopeParameters, RotaryEmbedding};

/// The keys of `LlamaConfig` and `Qwen2Config` that decide about the network; the defaults are `LlamaConfig`'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LlamaConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) hidden_act: String,
    pub(crate) max_position_embeddings: usize,
    pub(crate) initializer_range: f64,
    pub(crate) rms_norm_eps: f64,
    pub(crate) attention_dropout: f64,
    pub(crate) attention_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) pad_token_id: Option<u32>,
    pub(crate) tie_word_embeddings: bool,
    #[serde(skip_deserializing)]
    pub(crate) rope_parameters: RopeParameters,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_sliding_window: bool,
}

impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            vocab_size: 32_000,
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            hidden_act: "silu".to_owned(),
            max_position_embeddings: 2048,
            initializer_range: 0.02,
            rms_norm_eps: 1e-6,
            attention_dropout: 0.0,
            attention_bias: false,
            mlp_bias: false,
            pad_token_id: None,
            tie_word_embeddings: false,
            rope_parameters: RopeParameters::default(),
            use_sliding_window: false,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LlamaScratch {
    /// Width of the hidden states, a multiple of `num_attention_heads`; default 256.
    hidden_size: usize,
    /// Layers; default 4.
    num_hidden_layers: usize,
    /// Attention heads of a layer; default 4.
    num_attention_heads: usize,
    /// Heads of keys and values, each shared by a group of attention heads; default `num_attention_heads`.
    num_key_value_heads: Option<usize>,
    /// Width inside the feed-forward half of a layer; default three times `hidden_size`.
    intermediate_size: Option<usize>,
    /// Activation of the gate: `silu`, `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu` or `tanh`; default `silu`.
    hidden_act: String,
    /// Longest text, in tokens; default 2048.
    max_position_embeddings: usize,
    /// Dropout of attention weights, 0 to below 1; default 0.
    attention_probs_dropout_prob: f64,
    /// Added to the mean square in norms, above 0; default 1e-5.
    rms_norm_eps: f64,
    /// Base of the rotary positions, above 0; default 10000.
    rope_theta: f64,
    /// Whether the output layer is the transposed word embeddings; default `true`.
    tie_word_embeddings: bool,
}

impl Default for LlamaScratch {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: None,
            intermediate_size: None,
            hidden_act: "silu".to_owned(),
            max_position_embeddings: 2048,
            attention_probs_dropout_prob: 0.0,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
        }
    }
}

impl LlamaScratch {
    pub(crate) fn into_config(self, vocabulary: Vocabulary) -> LlamaConfig {
        LlamaConfig {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: Some(self.num_key_value_heads.unwrap_or(self.num_attention_heads)),
            intermediate_size: self.intermediate_size.unwrap_or(self.hidden_size.saturating_mul(3)),
            hidden_act: self.hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            attention_dropout: self.attention_probs_dropout_prob,
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
            rope_parameters: RopeParameters::of_base(self.rope_theta),
            ..LlamaConfig::default()
        }
    }
}

impl LlamaConfig {
    /// From the keys of a `config.json`.
    pub(crate) fn read(keys: &Map<String, Value>) -> Result<Self, ConfigError> {
        let mut keys = keys.clone();
        let rope_parameters = RopeParameters::read(&keys)?;
        keys.remove("rope_parameters");
        Ok(Self { rope_parameters, ..read_keys(&keys)? })
    }

    pub(crate) fn check(&self) -> Checks {
        let mut checks = Checks::default();
        match self.head_dim {
            None => {
                checks.heads(
                    "hidden_size",
                    self.hidden_size,
                    "num_attention_heads",
                    self.num_attention_heads,
                );
            }
            Some(size) => {
                checks.positive("hidden_size", self.hidden_size);
                checks.positive("num_attention_heads", self.num_attention_heads);
                checks.positive("head_dim", size);
            }
        }
        let kv_heads = self.num_key_value_heads();
        checks.heads("num_attention_heads", self.num_attention_heads, "num_key_value_heads", kv_heads);
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            checks.positive(key, value);
        }
        checks.activation("hidden_act", &self.hidden_act);
        checks.probability("attention_dropout", self.attention_dropout);
        checks.above_zero("rms_norm_eps", self.rms_norm_eps);
        checks.above_zero("initializer_range", self.initializer_range);
        checks.pad(self.pad_token_id, self.vocab_size);
        self.rope_parameters.check(self.head_size(), &mut checks);
        if self.use_sliding_window {
            checks.fail(ConfigError::value("use_sliding_window", true, "must be `false`"));
        }
        checks
    }

    pub(crate) fn num_key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Numbers of a head.
    pub(crate) fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    pub(crate) fn activation(&self) -> Activation {
        // The name has been checked; the default only satisfies the type.
        self.hidden_act.parse().unwrap_or(Activation::Silu)
    }

    pub(crate) fn rotary(&self) -> RotaryEmbedding {
        RotaryEmbedding::new(self.rope_parameters.clone(), self.head_size(), self.max_position_embeddings)
    }

    /// How many numbers the network has.
    pub(crate) fn parameters(&self) -> u64 {
        let [vocab, hidden, inner, layers] =
            [self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers]
                .map(|size| size as u64);
        let (q, kv) = (
            (self.num_attention_heads * self.head_size()) as u64,
            (self.num_key_value_heads() * self.head_size()) as u64,
        );
        let layer = 2 * hidden * (q + kv) + 3 * hidden * inner + 2 * hidden;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        (tables * vocab * hidden).saturating_add(layers.saturating_mul(layer)) + hidden
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut keys = json_object(self);
        // Readers of both generations find it.
        keys.insert("rope_theta".to_owned(), self.rope_parameters.rope_theta.into());
        keys
    }
}
