//! T5's configuration, under Hugging Face's keys.

use distill_ops::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;
use crate::architecture::Vocabulary;
use crate::config::{Checks, json_object};

/// The keys of `T5Config` that decide about the network, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct T5Config {
    pub(crate) vocab_size: usize,
    pub(crate) d_model: usize,
    pub(crate) d_kv: usize,
    pub(crate) d_ff: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_decoder_layers: Option<usize>,
    pub(crate) num_heads: usize,
    pub(crate) relative_attention_num_buckets: usize,
    pub(crate) relative_attention_max_distance: usize,
    pub(crate) dropout_rate: f64,
    pub(crate) layer_norm_epsilon: f64,
    pub(crate) initializer_factor: f64,
    pub(crate) feed_forward_proj: String,
    pub(crate) pad_token_id: Option<u32>,
    pub(crate) eos_token_id: Option<u32>,
    pub(crate) decoder_start_token_id: Option<u32>,
    pub(crate) tie_word_embeddings: bool,
    /// Whether logits are of hidden states divided by √d_model; where a file does not say, it is whether the embeddings
    /// are tied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scale_decoder_outputs: Option<bool>,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32_128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_decoder_layers: None,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            dropout_rate: 0.1,
            layer_norm_epsilon: 1e-6,
            initializer_factor: 1.0,
            feed_forward_proj: "relu".to_owned(),
            pad_token_id: Some(0),
            eos_token_id: Some(1),
            decoder_start_token_id: None,
            tie_word_embeddings: true,
            scale_decoder_outputs: None,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct T5Scratch {
    /// Width of the hidden states; default 256.
    hidden_size: usize,
    /// Layers of the encoder; default 4.
    num_hidden_layers: usize,
    /// Layers of the decoder; default `num_hidden_layers`.
    num_decoder_layers: Option<usize>,
    /// Attention heads of a layer; default 4.
    num_attention_heads: usize,
    /// Numbers of a head; default `hidden_size` over `num_attention_heads`.
    d_kv: Option<usize>,
    /// Width inside the feed-forward half of a layer; default four times `hidden_size`.
    intermediate_size: Option<usize>,
    /// Feed-forward half: `relu` as in T5 1.0, `gated-gelu` as in 1.1, or another activation, gated or not; default `gated-gelu`.
    feed_forward_proj: String,
    /// Dropout, 0 to below 1; default 0.1.
    hidden_dropout_prob: f64,
    /// Added to the mean square in norms, above 0; default 1e-6.
    layer_norm_eps: f64,
    /// Classes of distances between tokens; default 32.
    relative_attention_num_buckets: usize,
    /// Distance from which on all are one class, in tokens; default 128.
    relative_attention_max_distance: usize,
}

impl Default for T5Scratch {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_hidden_layers: 4,
            num_decoder_layers: None,
            num_attention_heads: 4,
            d_kv: None,
            intermediate_size: None,
            feed_forward_proj: "gated-gelu".to_owned(),
            hidden_dropout_prob: 0.1,
            layer_norm_eps: 1e-6,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
        }
    }
}

impl T5Scratch {
    pub(crate) fn into_config(self, vocabulary: Vocabulary) -> T5Config {
        T5Config {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            decoder_start_token_id: Some(vocabulary.pad_token_id),
            d_model: self.hidden_size,
            d_kv: self.d_kv.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            d_ff: self.intermediate_size.unwrap_or(self.hidden_size.saturating_mul(4)),
            num_layers: self.num_hidden_layers,
            num_decoder_layers: Some(self.num_decoder_layers.unwrap_or(self.num_hidden_layers)),
            num_heads: self.num_attention_heads,
            relative_attention_num_buckets: self.relative_attention_num_buckets,
            relative_attention_max_distance: self.relative_attention_max_distance,
            dropout_rate: self.hidden_dropout_prob,
            layer_norm_epsilon: self.layer_norm_eps,
            feed_forward_proj: self.feed_forward_proj,
            ..T5Config::default()
        }
    }
}

/// The feed-forward half of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedForward {
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
}

impl T5Config {
    pub(crate) fn check(&self) -> Checks {
        let mut checks = Checks::default();
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_decoder_layers", self.decoder_layers()),
            ("num_heads", self.num_heads),
        ] {
            checks.positive(key, value);
        }
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets < 4 || !buckets.is_multiple_of(2) {
            let expected = "must be even and at least 4";
            checks.fail(ConfigError::value("relative_attention_num_buckets", buckets, expected));
        }
        if distance <= buckets / 2 {
            let expected = format!("must be above {}, half of the buckets", buckets / 2);
            checks.fail(ConfigError::value("relative_attention_max_distance", distance, expected));
        }
        checks.probability("dropout_rate", self.dropout_rate);
        checks.above_zero("layer_norm_epsilon", self.layer_norm_epsilon);
        checks.above_zero("initializer_factor", self.initializer_factor);
        checks.pad(self.pad_token_id, self.vocab_size);
        let activation = self.feed_forward_proj.strip_prefix("gated-").unwrap_or(&self.feed_forward_proj);
        checks.activation("feed_forward_proj", activation);
        checks
    }

    pub(crate) fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    pub(crate) fn feed_forward(&self) -> FeedForward {
        let (gated, name) = match self.feed_forward_proj.strip_prefix("gated-") {
            // What T5 1.1 calls so is the approximation by tanh.
            Some("gelu") => (true, "gelu_new"),
            Some(name) => (true, name),
            None => (false, self.feed_forward_proj.as_str()),
        };
        // The name has been checked; the default only satisfies the type.
        FeedForward { activation: name.parse().unwrap_or(Activation::Relu), gated }
    }

    pub(crate) fn scales_outputs(&self) -> bool {
        self.scale_decoder_outputs.unwrap_or(self.tie_word_embeddings)
    }

    /// The token that a target begins with.
    pub(crate) fn start_token(&self) -> u32 {
        self.decoder_start_token_id.or(self.pad_token_id).unwrap_or(0)
    }

    /// How many numbers the network has, the output layer taken as tied.
    pub(crate) fn parameters(&self) -> u64 {
        let [vocab, width, inner, ff, layers, decoder_layers] = [
            self.vocab_size,
            self.d_model,
            self.num_heads.saturating_mul(self.d_kv),
            self.d_ff,
            self.num_layers,
            self.decoder_layers(),
        ]
        .map(|size| size as u64);
        let attention = 4 * width * inner + width;
        let feed_forward = (if self.feed_forward().gated { 3 } else { 2 }) * width * ff + width;
        let of_layers = layers
            .saturating_mul(attention + feed_forward)
            .saturating_add(decoder_layers.saturating_mul(2 * attention + feed_forward));
        (vocab * width).saturating_add(of_layers)
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut keys = json_object(self);
        keys.insert("decoder_start_token_id".to_owned(), self.start_token().into());
        keys.insert("is_encoder_decoder".to_owned(), true.into());
        keys
    }
}
