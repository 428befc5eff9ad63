//! GPT-2; Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
//!
//! Follows `GPT2Model`, `GPT2Block`, `GPT2Attention`, `GPT2MLP` and `GPT2LMHeadModel` in Transformers'
//! `models/gpt2/modeling_gpt2.py`. Its dense layers are `Conv1D`: weights are stored `[in, out]`.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use distill_ops::{Activation, Dropout, scaled_attention};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, TaskKind};
use crate::bert_encoder::depth;
use crate::causal_lm::{next_logits, with_earlier};
use crate::config::{Checks, json_object, read_keys, read_scratch};
use crate::key_value_cache::KeyValueCache;
use crate::layer_context::LayerContext;
use crate::layer_output::{Kept, LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, LayerNorm, Linear, join_heads, split_heads};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, ConfigError, Sizes, Task};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    model_type: "gpt2",
    class: "GPT2",
    tasks: &[TaskKind::CausalLm],
    parse: |keys| {
        let config: Gpt2Config = read_keys(keys)?;
        config.check(Keys::HuggingFace).finish_first()?;
        Ok(Box::new(config))
    },
    scratch: |table, vocabulary| {
        let table: Gpt2Scratch = read_scratch(table)?;
        let config = Gpt2Config {
            vocab_size: vocabulary.size,
            pad_token_id: Some(vocabulary.pad_token_id),
            n_embd: table.hidden_size,
            n_layer: table.num_hidden_layers,
            n_head: table.num_attention_heads,
            n_inner: table.intermediate_size,
            n_positions: table.max_position_embeddings,
            activation_function: table.hidden_act,
            embd_pdrop: table.hidden_dropout_prob,
            resid_pdrop: table.hidden_dropout_prob,
            attn_pdrop: table.attention_probs_dropout_prob,
            layer_norm_epsilon: table.layer_norm_eps,
            ..Gpt2Config::default()
        };
        config.check(Keys::Recipe).finish()?;
        Ok(Box::new(config))
    },
    schema: || schemars::schema_for!(Gpt2Scratch),
};

/// The keys of `GPT2Config` that decide about the network, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Gpt2Config {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: String,
    resid_pdrop: f64,
    embd_pdrop: f64,
    attn_pdrop: f64,
    layer_norm_epsilon: f64,
    initializer_range: f64,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    pad_token_id: Option<u32>,
    tie_word_embeddings: bool,
    add_cross_attention: bool,
}

impl Default for Gpt2Config {
    fn default() -> Self {
        Self {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: "gelu_new".to_owned(),
            resid_pdrop: 0.1,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            layer_norm_epsilon: 1e-5,
            initializer_range: 0.02,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            pad_token_id: None,
            tie_word_embeddings: true,
            add_cross_attention: false,
        }
    }
}

/// Sizes of a model from scratch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Gpt2Scratch {
    /// Width of the hidden states, a multiple of `num_attention_heads`; default 256.
    hidden_size: usize,
    /// Layers; default 4.
    num_hidden_layers: usize,
    /// Attention heads of a layer; default 4.
    num_attention_heads: usize,
    /// Width inside the feed-forward half of a layer; default four times `hidden_size`.
    intermediate_size: Option<usize>,
    /// `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu`, `tanh` or `silu`; default `gelu_new`.
    hidden_act: String,
    /// Rows of the position table: the longest text, in tokens; default 1024.
    max_position_embeddings: usize,
    /// Dropout of embeddings and layers, 0 to below 1; default 0.1.
    hidden_dropout_prob: f64,
    /// Dropout of attention weights, 0 to below 1; default 0.1.
    attention_probs_dropout_prob: f64,
    /// Added to the variance in layer norms, above 0; default 1e-5.
    layer_norm_eps: f64,
}

impl Default for Gpt2Scratch {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            intermediate_size: None,
            hidden_act: "gelu_new".to_owned(),
            max_position_embeddings: 1024,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            layer_norm_eps: 1e-5,
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

impl Gpt2Config {
    fn check(&self, keys: Keys) -> Checks {
        let mut checks = Checks::default();
        let heads = keys.name("n_head", "num_attention_heads");
        checks.heads(keys.name("n_embd", "hidden_size"), self.n_embd, heads, self.n_head);
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            (keys.name("n_layer", "num_hidden_layers"), self.n_layer),
            (keys.name("n_inner", "intermediate_size"), self.inner()),
            (keys.name("n_positions", "max_position_embeddings"), self.n_positions),
        ] {
            checks.positive(key, value);
        }
        checks.activation(keys.name("activation_function", "hidden_act"), &self.activation_function);
        checks.probability(keys.name("resid_pdrop", "hidden_dropout_prob"), self.resid_pdrop);
        checks.probability(keys.name("attn_pdrop", "attention_probs_dropout_prob"), self.attn_pdrop);
        if matches!(keys, Keys::HuggingFace) {
            checks.probability("embd_pdrop", self.embd_pdrop);
        }
        checks.above_zero(keys.name("layer_norm_epsilon", "layer_norm_eps"), self.layer_norm_epsilon);
        checks.above_zero("initializer_range", self.initializer_range);
        checks.pad(self.pad_token_id, self.vocab_size);
        if self.add_cross_attention {
            checks.fail(ConfigError::value("add_cross_attention", true, "must be `false`"));
        }
        checks
    }

    fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    /// What the scores of layer `n` are multiplied by.
    fn scale(&self, n: usize) -> f64 {
        let head_size = (self.n_embd / self.n_head.max(1)) as f64;
        let scale = if self.scale_attn_weights { head_size.sqrt().recip() } else { 1.0 };
        if self.scale_attn_by_inverse_layer_idx { scale / (n + 1) as f64 } else { scale }
    }
}

impl BaseModelConfig for Gpt2Config {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.n_embd,
            embedding_size: self.n_embd,
            num_hidden_layers: self.n_layer,
            num_attention_heads: self.n_head,
            intermediate_size: self.inner(),
            max_length: self.n_positions,
            reserved_positions: 0,
            pad_token_id: self.pad_token_id,
            type_vocab_size: 1,
            initializer_range: self.initializer_range,
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        json_object(self)
    }

    fn set_dropout(&mut self, p: f64) {
        (self.embd_pdrop, self.resid_pdrop, self.attn_pdrop) = (p, p, p);
    }

    fn build(&self, _: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        if self.tie_word_embeddings {
            weights.tied("lm_head.weight");
        }
        let head = || Linear::without_bias(&weights.child("lm_head"), self.n_embd, self.vocab_size);
        let model = GPT2LMHeadModel {
            transformer: GPT2Model::new(&weights.child("transformer"), self),
            lm_head: (!self.tie_word_embeddings).then(head),
        };
        ModuleModel::boxed(model, &device)
    }

    fn clone_box(&self) -> Box<dyn BaseModelConfig> {
        Box::new(self.clone())
    }
}

#[derive(Module, Debug)]
struct GPT2Model {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<GPT2Block>,
    ln_f: LayerNorm,
    #[module(skip)]
    embd_pdrop: f64,
}

impl GPT2Model {
    fn new(weights: &Weights, config: &Gpt2Config) -> Self {
        let table = |name, rows| Embedding::new(&weights.child(name), rows, config.n_embd, None);
        Self {
            wte: table("wte", config.vocab_size),
            wpe: table("wpe", config.n_positions),
            h: (0..config.n_layer)
                .map(|n| GPT2Block::new(&weights.child(&format!("h.{n}")), n, config))
                .collect(),
            ln_f: LayerNorm::new(&weights.child("ln_f"), config.n_embd, config.layer_norm_epsilon),
            embd_pdrop: config.embd_pdrop,
        }
    }
}

impl Encoder for GPT2Model {
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let words = self.wte.forward(input.input_ids.clone());
        let positions = match &input.position_ids {
            None => self.wpe.first_rows(input.shape[1]),
            Some(ids) => {
                let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
                let ids = TensorData::new(ids, input.shape);
                self.wpe.forward(Tensor::<2, Int>::from_data(ids, &words.device().without_autodiff()))
            }
        };
        dropout.apply(words + positions, self.embd_pdrop)
    }

    fn context(&self, input: &ModelInput) -> LayerContext<'static> {
        LayerContext::of(input.attention_bias.clone().causal())
    }

    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        self.h[n].forward(hidden, wanted, context, dropout)
    }

    fn finish(&self, last: Tensor<3>, _: &LayerContext<'_>, _: &mut Dropout) -> Tensor<3> {
        self.ln_f.forward(last)
    }

    fn num_hidden_layers(&self) -> usize {
        self.h.len()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        depth(name, "transformer.w", "transformer.h.")
    }
}

#[derive(Module, Debug)]
struct GPT2Block {
    ln_1: LayerNorm,
    attn: GPT2Attention,
    ln_2: LayerNorm,
    mlp: GPT2MLP,
    #[module(skip)]
    resid_pdrop: f64,
}

impl GPT2Block {
    fn new(weights: &Weights, n: usize, config: &Gpt2Config) -> Self {
        let width = config.n_embd;
        let norm = |name| LayerNorm::new(&weights.child(name), width, config.layer_norm_epsilon);
        let linear =
            |name, inputs, outputs, init| Linear::in_out(&weights.child(name), inputs, outputs, init);
        // Sums of many layers keep their size: §2.3 of the paper.
        let onto_residual = Init::NormalOf(config.initializer_range / ((2 * config.n_layer) as f64).sqrt());
        Self {
            ln_1: norm("ln_1"),
            attn: GPT2Attention {
                c_attn: linear("attn.c_attn", width, 3 * width, Init::Normal),
                c_proj: linear("attn.c_proj", width, width, onto_residual),
                n,
                n_head: config.n_head,
                scale: config.scale(n),
                attn_pdrop: config.attn_pdrop,
            },
            ln_2: norm("ln_2"),
            mlp: GPT2MLP {
                c_fc: linear("mlp.c_fc", width, config.inner(), Init::Normal),
                c_proj: linear("mlp.c_proj", config.inner(), width, onto_residual),
                // The name has been checked; the default only satisfies the type.
                activation_function: config.activation_function.parse().unwrap_or(Activation::GeluNew),
            },
            resid_pdrop: config.resid_pdrop,
        }
    }

    fn forward(
        &self,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let residual = wanted.tokens.of(&hidden);
        let (attended, kept) = self.attn.forward(self.ln_1.forward(hidden), wanted, context, dropout);
        let hidden = residual + dropout.apply(attended, self.resid_pdrop);
        let inner = self.mlp.forward(self.ln_2.forward(hidden.clone()), dropout);
        LayerOutput { hidden: hidden + dropout.apply(inner, self.resid_pdrop), kept }
    }
}

#[derive(Module, Debug)]
struct GPT2Attention {
    c_attn: Linear,
    c_proj: Linear,
    /// Which layer this is.
    #[module(skip)]
    n: usize,
    #[module(skip)]
    n_head: usize,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    attn_pdrop: f64,
}

impl GPT2Attention {
    fn forward(
        &self,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> (Tensor<3>, Kept) {
        let [_, _, width] = hidden.dims();
        let all = self.c_attn.forward(hidden, dropout);
        let projected = [0, 1, 2].map(|part| all.clone().narrow(2, part * width, width));
        let queries_keys_values = wanted.queries_keys_values.then(|| projected.clone());
        let [q, k, v] = projected;
        let q = split_heads(wanted.tokens.of(&q), self.n_head);
        let [k, v] = [k, v].map(|x| split_heads(x, self.n_head).swap_dims(1, 2));
        let [k, v] = with_earlier(self.n, k, v, context);
        let out =
            scaled_attention(q, k, v, self.scale, &context.bias, self.attn_pdrop, dropout, wanted.scores);
        let kept = Kept { scores: out.scores, queries_keys_values };
        (self.c_proj.forward(join_heads(out.context), dropout), kept)
    }
}

#[derive(Module, Debug)]
struct GPT2MLP {
    c_fc: Linear,
    c_proj: Linear,
    #[module(skip)]
    activation_function: Activation,
}

impl GPT2MLP {
    fn forward(&self, x: Tensor<3>, dropout: &mut Dropout) -> Tensor<3> {
        let inner = self.c_fc.forward(x, dropout);
        self.c_proj.forward_activated(inner, self.activation_function, dropout)
    }
}

#[derive(Module, Debug)]
struct GPT2LMHeadModel {
    transformer: GPT2Model,
    lm_head: Option<Linear>,
}

impl Forward for GPT2LMHeadModel {
    fn encoder(&self) -> &dyn Encoder {
        &self.transformer
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let logits = match &self.lm_head {
            Some(head) => head.logits(last.clone(), dropout),
            None => Logits::of_hidden(last.clone(), self.transformer.wte.table(), None),
        };
        HeadOutput { logits, pooler_output: None }
    }

    fn next_logits(&self, input: &ModelInput, cache: &mut KeyValueCache) -> Option<Tensor<2>> {
        Some(next_logits(self, input, cache))
    }
}
