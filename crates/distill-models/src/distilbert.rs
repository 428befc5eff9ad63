//! DistilBERT; Sanh et al. 2019 (arXiv:1910.01108).
//!
//! Follows `Embeddings`, `TransformerBlock`, `FFN`, `DistilBertForSequenceClassification` and `DistilBertForMaskedLM` in
//! Transformers' `models/distilbert/modeling_distilbert.py`.

#![allow(non_snake_case)] // fields are named as in checkpoints: `LayerNorm`

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use distill_ops::{Activation, AttentionBias, Dropout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, ENCODER_TASKS};
use crate::bert_encoder::depth;
use crate::config::{Checks, json_object, read_keys, read_scratch};
use crate::layer_context::LayerContext;
use crate::layer_output::{LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, LayerNorm, Linear, first_token, self_attention};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, ConfigError, Sizes, Task};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    model_type: "distilbert",
    class: "DistilBert",
    tasks: ENCODER_TASKS,
    parse: |keys| {
        let config: DistilBertConfig = read_keys(keys)?;
        config.check(Keys::HuggingFace).finish_first()?;
        Ok(Box::new(config))
    },
    scratch: |table, vocabulary| {
        let table: DistilBertScratch = read_scratch(table)?;
        let config = DistilBertConfig {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            dim: table.hidden_size,
            n_layers: table.num_hidden_layers,
            n_heads: table.num_attention_heads,
            hidden_dim: table.intermediate_size.unwrap_or(4 * table.hidden_size),
            activation: table.hidden_act,
            max_position_embeddings: table.max_position_embeddings,
            dropout: table.hidden_dropout_prob,
            attention_dropout: table.attention_probs_dropout_prob,
            ..DistilBertConfig::default()
        };
        config.check(Keys::Recipe).finish()?;
        Ok(Box::new(config))
    },
    schema: || schemars::schema_for!(DistilBertScratch),
};

/// Fixed in Transformers.
const LAYER_NORM_EPS: f64 = 1e-12;

/// The keys of `DistilBertConfig` that decide about the network, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct DistilBertConfig {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: String,
    dropout: f64,
    attention_dropout: f64,
    seq_classif_dropout: f64,
    max_position_embeddings: usize,
    initializer_range: f64,
    pad_token_id: Option<u32>,
    tie_word_embeddings: bool,
}

impl Default for DistilBertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            activation: "gelu".to_owned(),
            dropout: 0.1,
            attention_dropout: 0.1,
            seq_classif_dropout: 0.2,
            max_position_embeddings: 512,
            initializer_range: 0.02,
            pad_token_id: Some(0),
            tie_word_embeddings: true,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DistilBertScratch {
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
    /// Rows of the position table; default 512.
    max_position_embeddings: usize,
    /// Dropout of embeddings and layers, 0 to below 1; default 0.1.
    hidden_dropout_prob: f64,
    /// Dropout of attention weights, 0 to below 1; default 0.1.
    attention_probs_dropout_prob: f64,
}

impl Default for DistilBertScratch {
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
        }
    }
}

/// Whose words an error speaks: those of `config.json` or those of a recipe.
#[derive(Clone, Copy)]
enum Keys {
    HuggingFace,
    Recipe,
}

impl Keys {
    fn name(self, hugging_face: &'static str, recipe: &'static str) -> &'static str {
        match self {
            Self::HuggingFace => hugging_face,
            Self::Recipe => recipe,
        }
    }
}

impl DistilBertConfig {
    fn check(&self, keys: Keys) -> Checks {
        let mut checks = Checks::default();
        checks.heads(
            keys.name("dim", "hidden_size"),
            self.dim,
            keys.name("n_heads", "num_attention_heads"),
            self.n_heads,
        );
        checks.positive("vocab_size", self.vocab_size);
        checks.positive(keys.name("n_layers", "num_hidden_layers"), self.n_layers);
        checks.positive(keys.name("hidden_dim", "intermediate_size"), self.hidden_dim);
        checks.positive("max_position_embeddings", self.max_position_embeddings);
        checks.activation(keys.name("activation", "hidden_act"), &self.activation);
        checks.probability(keys.name("dropout", "hidden_dropout_prob"), self.dropout);
        let attention = keys.name("attention_dropout", "attention_probs_dropout_prob");
        checks.probability(attention, self.attention_dropout);
        checks.probability("seq_classif_dropout", self.seq_classif_dropout);
        checks.above_zero("initializer_range", self.initializer_range);
        checks.pad(self.pad_token_id, self.vocab_size);
        if !self.tie_word_embeddings {
            checks.fail(ConfigError::value("tie_word_embeddings", false, "must be `true`"));
        }
        checks
    }

    fn activation(&self) -> Activation {
        // The name has been checked; the default only satisfies the type.
        self.activation.parse().unwrap_or(Activation::Gelu)
    }
}

impl BaseModelConfig for DistilBertConfig {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.dim,
            embedding_size: self.dim,
            num_hidden_layers: self.n_layers,
            num_attention_heads: self.n_heads,
            intermediate_size: self.hidden_dim,
            max_length: self.max_position_embeddings,
            reserved_positions: 0,
            pad_token_id: self.pad_token_id,
            type_vocab_size: 0,
            initializer_range: self.initializer_range,
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        json_object(self)
    }

    fn set_dropout(&mut self, p: f64) {
        self.dropout = p;
        self.attention_dropout = p;
        self.seq_classif_dropout = p;
    }

    fn build(&self, task: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        let distilbert = DistilBertModel::new(&weights.child("distilbert"), self);
        let linear = |name: &str, outputs| Linear::new(&weights.child(name).head(), self.dim, outputs);
        match task {
            Task::Classification { id2label } => {
                let model = DistilBertForSequenceClassification {
                    distilbert,
                    pre_classifier: linear("pre_classifier", self.dim),
                    classifier: linear("classifier", id2label.len()),
                    seq_classif_dropout: self.seq_classif_dropout,
                };
                ModuleModel::boxed(model, &device)
            }
            Task::MaskedLm => {
                let projector = weights.child("vocab_projector").head();
                projector.tied("weight");
                let model = DistilBertForMaskedLM {
                    distilbert,
                    vocab_transform: linear("vocab_transform", self.dim),
                    vocab_layer_norm: LayerNorm::new(
                        &weights.child("vocab_layer_norm").head(),
                        self.dim,
                        LAYER_NORM_EPS,
                    ),
                    vocab_projector: VocabProjector {
                        bias: projector.get("bias", [self.vocab_size], Init::Zeros),
                    },
                    activation: self.activation(),
                };
                ModuleModel::boxed(model, &device)
            }
            Task::CausalLm | Task::Seq2SeqLm => unreachable!("{}", task.kind().not_asked()),
        }
    }

    fn clone_box(&self) -> Box<dyn BaseModelConfig> {
        Box::new(self.clone())
    }
}

#[derive(Module, Debug)]
struct DistilBertModel {
    embeddings: Embeddings,
    transformer: Transformer,
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    LayerNorm: LayerNorm,
    #[module(skip)]
    dropout: f64,
}

#[derive(Module, Debug)]
struct Transformer {
    layer: Vec<TransformerBlock>,
}

impl DistilBertModel {
    fn new(weights: &Weights, config: &DistilBertConfig) -> Self {
        let embeddings = weights.child("embeddings");
        let table = |name, rows, padding| Embedding::new(&embeddings.child(name), rows, config.dim, padding);
        let layer =
            |n: usize| TransformerBlock::new(&weights.child(&format!("transformer.layer.{n}")), config);
        Self {
            embeddings: Embeddings {
                word_embeddings: table("word_embeddings", config.vocab_size, config.pad_token_id),
                position_embeddings: table("position_embeddings", config.max_position_embeddings, None),
                LayerNorm: LayerNorm::new(&embeddings.child("LayerNorm"), config.dim, LAYER_NORM_EPS),
                dropout: config.dropout,
            },
            transformer: Transformer { layer: (0..config.n_layers).map(layer).collect() },
        }
    }
}

impl Encoder for DistilBertModel {
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let [_, seq] = input.shape;
        let words = self.embeddings.word_embeddings.forward(input.input_ids.clone());
        let sum = words + self.embeddings.position_embeddings.first_rows(seq);
        dropout.apply(self.embeddings.LayerNorm.forward(sum), self.embeddings.dropout)
    }

    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        self.transformer.layer[n].forward(hidden, wanted, &context.bias, dropout)
    }

    fn num_hidden_layers(&self) -> usize {
        self.transformer.layer.len()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        depth(name, "distilbert.embeddings.", "distilbert.transformer.layer.")
    }
}

#[derive(Module, Debug)]
struct TransformerBlock {
    attention: SelfAttention,
    sa_layer_norm: LayerNorm,
    ffn: FeedForward,
    output_layer_norm: LayerNorm,
    #[module(skip)]
    n_heads: usize,
    #[module(skip)]
    attention_dropout: f64,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    activation: Activation,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_lin: Linear,
    k_lin: Linear,
    v_lin: Linear,
    out_lin: Linear,
}

#[derive(Module, Debug)]
struct FeedForward {
    lin1: Linear,
    lin2: Linear,
}

impl TransformerBlock {
    fn new(weights: &Weights, config: &DistilBertConfig) -> Self {
        let square = |name| Linear::new(&weights.child(name), config.dim, config.dim);
        let norm = |name| LayerNorm::new(&weights.child(name), config.dim, LAYER_NORM_EPS);
        Self {
            attention: SelfAttention {
                q_lin: square("attention.q_lin"),
                k_lin: square("attention.k_lin"),
                v_lin: square("attention.v_lin"),
                out_lin: square("attention.out_lin"),
            },
            sa_layer_norm: norm("sa_layer_norm"),
            ffn: FeedForward {
                lin1: Linear::new(&weights.child("ffn.lin1"), config.dim, config.hidden_dim),
                lin2: Linear::new(&weights.child("ffn.lin2"), config.hidden_dim, config.dim),
            },
            output_layer_norm: norm("output_layer_norm"),
            n_heads: config.n_heads,
            attention_dropout: config.attention_dropout,
            dropout: config.dropout,
            activation: config.activation(),
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
        let SelfAttention { q_lin, k_lin, v_lin, out_lin } = &self.attention;
        let projected = [
            q_lin.forward(queried, dropout),
            k_lin.forward(hidden.clone(), dropout),
            v_lin.forward(hidden, dropout),
        ];
        let (context, kept) =
            self_attention(projected, self.n_heads, wanted, bias, self.attention_dropout, dropout);
        let attended = out_lin.forward(context, dropout);
        let attended = self.sa_layer_norm.forward_sum(attended, residual);
        let inner = self.ffn.lin1.forward(attended.clone(), dropout);
        let output = self.ffn.lin2.forward_activated(inner, self.activation, dropout);
        let hidden = self.output_layer_norm.forward_dropout_sum(output, self.dropout, dropout, attended);
        LayerOutput { hidden, kept }
    }
}

#[derive(Module, Debug)]
struct DistilBertForSequenceClassification {
    distilbert: DistilBertModel,
    pre_classifier: Linear,
    classifier: Linear,
    #[module(skip)]
    seq_classif_dropout: f64,
}

impl Forward for DistilBertForSequenceClassification {
    fn encoder(&self) -> &dyn Encoder {
        &self.distilbert
    }

    fn reads(&self) -> Tokens {
        Tokens::First
    }

    /// There is no pooler.
    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let x = activation::relu(self.pre_classifier.forward(first_token(last.clone()), dropout));
        let logits =
            Logits::computed(self.classifier.forward(dropout.apply(x, self.seq_classif_dropout), dropout));
        HeadOutput { logits, pooler_output: None }
    }
}

#[derive(Module, Debug)]
struct DistilBertForMaskedLM {
    distilbert: DistilBertModel,
    vocab_transform: Linear,
    vocab_layer_norm: LayerNorm,
    vocab_projector: VocabProjector,
    #[module(skip)]
    activation: Activation,
}

/// Its weight is the word embeddings'.
#[derive(Module, Debug)]
struct VocabProjector {
    bias: Param<Tensor<1>>,
}

impl Forward for DistilBertForMaskedLM {
    fn encoder(&self) -> &dyn Encoder {
        &self.distilbert
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let x = self.activation.forward(self.vocab_transform.forward(last.clone(), dropout));
        let x = self.vocab_layer_norm.forward(x);
        let table = self.distilbert.embeddings.word_embeddings.table();
        HeadOutput {
            logits: Logits::of_hidden(x, table, Some(self.vocab_projector.bias.val())),
            pooler_output: None,
        }
    }
}
