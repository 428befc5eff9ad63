//! Llama; Touvron et al. 2023 (arXiv:2302.13971, arXiv:2307.09288). SmolLM2 and TinyLlama are of this architecture.
//!
//! Follows `LlamaModel`, `LlamaDecoderLayer`, `LlamaAttention`, `LlamaMLP` and `LlamaForCausalLM` in Transformers'
//! `models/llama/modeling_llama.py`.

use burn::module::Module;
use burn::tensor::Tensor;
use distill_ops::{Activation, Dropout, attention, rotary, silu_gated};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, TaskKind};
use crate::bert_encoder::depth;
use crate::causal_lm::{next_logits, with_earlier};
use crate::config::read_scratch;
use crate::key_value_cache::KeyValueCache;
use crate::layer_context::LayerContext;
use crate::layer_output::{Kept, LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, Linear, RmsNorm, join_heads};
use crate::llama_config::{LlamaConfig, LlamaScratch};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel};
use crate::rotary_embedding::RotaryEmbedding;
use crate::weights::Weights;
use crate::{BaseModelConfig, Sizes, Task};

pub(crate) const LLAMA: Architecture = Architecture {
    model_type: "llama",
    class: "Llama",
    tasks: &[TaskKind::CausalLm],
    parse: |keys| {
        let config = LlamaConfig::read(keys)?;
        config.check().finish_first()?;
        let projections = Projections { bias: config.attention_bias, output_bias: config.attention_bias };
        Ok(Box::new(Llama { config, projections }))
    },
    scratch: |table, vocabulary| {
        let config = read_scratch::<LlamaScratch>(table)?.into_config(vocabulary);
        config.check().finish()?;
        Ok(Box::new(Llama { config, projections: Projections { bias: false, output_bias: false } }))
    },
    schema: || schemars::schema_for!(LlamaScratch),
};

/// Qwen2: the same with biases of queries, keys and values; Yang et al. 2024 (arXiv:2407.10671).
///
/// Follows `Qwen2Attention` in Transformers' `models/qwen2/modeling_qwen2.py`.
pub(crate) const QWEN2: Architecture = Architecture {
    model_type: "qwen2",
    class: "Qwen2",
    tasks: &[TaskKind::CausalLm],
    parse: |keys| {
        let config = LlamaConfig::read(keys)?;
        config.check().finish_first()?;
        Ok(Box::new(Llama { config, projections: Projections { bias: true, output_bias: false } }))
    },
    scratch: |table, vocabulary| {
        let config = read_scratch::<LlamaScratch>(table)?.into_config(vocabulary);
        config.check().finish()?;
        Ok(Box::new(Llama { config, projections: Projections { bias: true, output_bias: false } }))
    },
    schema: || schemars::schema_for!(LlamaScratch),
};

#[derive(Debug, Clone)]
struct Llama {
    config: LlamaConfig,
    projections: Projections,
}

/// Which of attention's projections have a bias.
#[derive(Debug, Clone, Copy)]
struct Projections {
    /// Queries, keys and values.
    bias: bool,
    output_bias: bool,
}

impl BaseModelConfig for Llama {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.config.vocab_size,
            hidden_size: self.config.hidden_size,
            embedding_size: self.config.hidden_size,
            num_hidden_layers: self.config.num_hidden_layers,
            num_attention_heads: self.config.num_attention_heads,
            intermediate_size: self.config.intermediate_size,
            max_length: self.config.max_position_embeddings,
            reserved_positions: 0,
            pad_token_id: self.config.pad_token_id,
            type_vocab_size: 1,
            initializer_range: self.config.initializer_range,
        }
    }

    fn approximate_parameters(&self) -> u64 {
        self.config.parameters()
    }

    fn to_json(&self) -> Map<String, Value> {
        self.config.to_json()
    }

    fn set_dropout(&mut self, p: f64) {
        self.config.attention_dropout = p;
    }

    fn build(&self, _: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        let config = &self.config;
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        if config.tie_word_embeddings {
            weights.tied("lm_head.weight");
        }
        let head = || Linear::without_bias(&weights.child("lm_head"), hidden, vocab);
        let model = LlamaForCausalLM {
            model: LlamaModel::new(&weights.child("model"), self),
            lm_head: (!config.tie_word_embeddings).then(head),
        };
        ModuleModel::boxed(model, &device)
    }

    fn clone_box(&self) -> Box<dyn BaseModelConfig> {
        Box::new(self.clone())
    }
}

#[derive(Module, Debug)]
struct LlamaModel {
    embed_tokens: Embedding,
    layers: Vec<LlamaDecoderLayer>,
    norm: RmsNorm,
    #[module(skip)]
    rotary: RotaryEmbedding,
}

impl LlamaModel {
    fn new(weights: &Weights, llama: &Llama) -> Self {
        let config = &llama.config;
        let layer = |n: usize| LlamaDecoderLayer::new(&weights.child(&format!("layers.{n}")), n, llama);
        Self {
            embed_tokens: Embedding::new(
                &weights.child("embed_tokens"),
                config.vocab_size,
                config.hidden_size,
                None,
            ),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: RmsNorm::new(&weights.child("norm"), config.hidden_size, config.rms_norm_eps),
            rotary: config.rotary(),
        }
    }
}

impl Encoder for LlamaModel {
    fn embed(&self, input: &ModelInput, _: &mut Dropout) -> Tensor<3> {
        self.embed_tokens.forward(input.input_ids.clone())
    }

    fn context(&self, input: &ModelInput) -> LayerContext<'static> {
        let (positions, rows) = input.positions();
        LayerContext {
            bias: input.attention_bias.clone().causal(),
            rotary: Some(self.rotary.table(&positions, rows)),
            ..LayerContext::default()
        }
    }

    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        self.layers[n].forward(hidden, wanted, context, dropout)
    }

    fn finish(&self, last: Tensor<3>, _: &LayerContext<'_>, _: &mut Dropout) -> Tensor<3> {
        self.norm.forward(last)
    }

    fn num_hidden_layers(&self) -> usize {
        self.layers.len()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        depth(name, "model.embed_tokens.", "model.layers.")
    }
}

#[derive(Module, Debug)]
struct LlamaDecoderLayer {
    self_attn: LlamaAttention,
    mlp: LlamaMLP,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
}

impl LlamaDecoderLayer {
    fn new(weights: &Weights, n: usize, llama: &Llama) -> Self {
        let config = &llama.config;
        let norm = |name| RmsNorm::new(&weights.child(name), config.hidden_size, config.rms_norm_eps);
        Self {
            self_attn: LlamaAttention::new(&weights.child("self_attn"), n, llama),
            mlp: LlamaMLP::new(&weights.child("mlp"), config),
            input_layernorm: norm("input_layernorm"),
            post_attention_layernorm: norm("post_attention_layernorm"),
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
        let normed = self.input_layernorm.forward(hidden);
        let (hidden, kept) = self.self_attn.forward(normed, residual, wanted, context, dropout);
        let normed = self.post_attention_layernorm.forward(hidden.clone());
        LayerOutput { hidden: self.mlp.forward(normed, hidden, dropout), kept }
    }
}

#[derive(Module, Debug)]
struct LlamaAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Which layer this is.
    #[module(skip)]
    n: usize,
    #[module(skip)]
    head_size: usize,
    #[module(skip)]
    attention_dropout: f64,
}

impl LlamaAttention {
    fn new(weights: &Weights, n: usize, Llama { config, projections }: &Llama) -> Self {
        let hidden = config.hidden_size;
        let [q, kv] =
            [config.num_attention_heads, config.num_key_value_heads()].map(|n| n * config.head_size());
        let linear = |name, inputs, outputs, bias| {
            Linear::with_optional_bias(&weights.child(name), inputs, outputs, bias)
        };
        Self {
            q_proj: linear("q_proj", hidden, q, projections.bias),
            k_proj: linear("k_proj", hidden, kv, projections.bias),
            v_proj: linear("v_proj", hidden, kv, projections.bias),
            o_proj: linear("o_proj", q, hidden, projections.output_bias),
            n,
            head_size: config.head_size(),
            attention_dropout: config.attention_dropout,
        }
    }

    /// The sum with `residual`, of the tokens that are wanted.
    fn forward(
        &self,
        hidden: Tensor<3>,
        residual: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> (Tensor<3>, Kept) {
        let by_heads = |x: Tensor<3>| {
            let [batch, seq, width] = x.dims();
            x.reshape([batch, seq, width / self.head_size, self.head_size])
        };
        let turned = |x: Tensor<4>| match &context.rotary {
            Some(table) => rotary(x, table),
            None => x,
        };
        let projected = [
            self.q_proj.forward(hidden.clone(), dropout),
            self.k_proj.forward(hidden.clone(), dropout),
            self.v_proj.forward(hidden, dropout),
        ];
        let queries_keys_values = wanted.queries_keys_values.then(|| projected.clone());
        let [q, k, v] = projected.map(by_heads);
        // Angles belong to all tokens, so all queries are turned before one is picked.
        let q = wanted.tokens.of_heads(turned(q)).swap_dims(1, 2);
        let [k, v] = with_earlier(self.n, turned(k), v, context);
        let out = attention(q, k, v, &context.bias, self.attention_dropout, dropout, wanted.scores);
        let kept = Kept { scores: out.scores, queries_keys_values };
        (self.o_proj.forward_sum(join_heads(out.context), residual, dropout), kept)
    }
}

#[derive(Module, Debug)]
struct LlamaMLP {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    hidden_act: Activation,
}

impl LlamaMLP {
    fn new(weights: &Weights, config: &LlamaConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |name, inputs, outputs| {
            Linear::with_optional_bias(&weights.child(name), inputs, outputs, config.mlp_bias)
        };
        Self {
            gate_proj: linear("gate_proj", hidden, inner),
            up_proj: linear("up_proj", hidden, inner),
            down_proj: linear("down_proj", inner, hidden),
            hidden_act: config.activation(),
        }
    }

    /// The sum with `residual`.
    fn forward(&self, x: Tensor<3>, residual: Tensor<3>, dropout: &mut Dropout) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone(), dropout);
        let up = self.up_proj.forward(x, dropout);
        let gated = match self.hidden_act {
            Activation::Silu => silu_gated(gate, up),
            other => other.forward(gate) * up,
        };
        self.down_proj.forward_sum(gated, residual, dropout)
    }
}

#[derive(Module, Debug)]
struct LlamaForCausalLM {
    model: LlamaModel,
    lm_head: Option<Linear>,
}

impl Forward for LlamaForCausalLM {
    fn encoder(&self) -> &dyn Encoder {
        &self.model
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let logits = match &self.lm_head {
            Some(head) => head.logits(last.clone(), dropout),
            None => Logits::of_hidden(last.clone(), self.model.embed_tokens.table(), None),
        };
        HeadOutput { logits, pooler_output: None }
    }

    fn next_logits(&self, input: &ModelInput, cache: &mut KeyValueCache) -> Option<Tensor<2>> {
        Some(next_logits(self, input, cache))
    }
}
