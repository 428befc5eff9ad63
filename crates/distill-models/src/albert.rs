//! ALBERT: factorised embeddings and shared layers; Lan et al. 2019 (arXiv:1909.11942).
//!
//! Follows `AlbertEmbeddings`, `AlbertAttention`, `AlbertLayer`, `AlbertLayerGroup`, `AlbertTransformer`, `AlbertModel`,
//! `AlbertForSequenceClassification` and `AlbertForMaskedLM` in Transformers' `models/albert/modeling_albert.py`.

#![allow(non_snake_case)] // fields are named as in checkpoints: `LayerNorm`

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use distill_ops::{Activation, AttentionBias, Dropout};
use serde_json::{Map, Value};

use crate::albert_config::{AlbertConfig, AlbertScratch};
use crate::architecture::{Architecture, ENCODER_TASKS};
use crate::config::{json_object, read_keys, read_scratch};
use crate::layer_context::LayerContext;
use crate::layer_output::{Kept, LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, LayerNorm, Linear, first_token, self_attention};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, Sizes, Task};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    model_type: "albert",
    class: "Albert",
    tasks: ENCODER_TASKS,
    parse: |keys| {
        let config: AlbertConfig = read_keys(keys)?;
        config.check().finish_first()?;
        Ok(Box::new(config))
    },
    scratch: |table, vocabulary| {
        let config = read_scratch::<AlbertScratch>(table)?.into_config(vocabulary);
        config.check().finish()?;
        Ok(Box::new(config))
    },
    schema: || schemars::schema_for!(AlbertScratch),
};

impl BaseModelConfig for AlbertConfig {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            embedding_size: self.embedding_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            max_length: self.max_position_embeddings,
            reserved_positions: 0,
            pad_token_id: self.pad_token_id,
            type_vocab_size: self.type_vocab_size,
            initializer_range: self.initializer_range,
        }
    }

    fn approximate_parameters(&self) -> u64 {
        let [vocab, length, embedding, hidden, inner, layers] = [
            self.vocab_size,
            self.max_position_embeddings,
            self.embedding_size,
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_groups * self.inner_group_num,
        ]
        .map(|size| size as u64);
        let layer = 4 * hidden * hidden + 2 * hidden * inner + 9 * hidden + inner;
        ((vocab + length + hidden) * embedding).saturating_add(layers.saturating_mul(layer))
    }

    fn to_json(&self) -> Map<String, Value> {
        json_object(self)
    }

    fn set_dropout(&mut self, p: f64) {
        self.hidden_dropout_prob = p;
        self.attention_probs_dropout_prob = p;
        self.classifier_dropout_prob = p;
    }

    fn build(&self, task: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        match task {
            Task::Classification { id2label } => {
                let classifier = weights.child("classifier").head();
                let model = AlbertForSequenceClassification {
                    albert: AlbertModel::new(&weights.child("albert"), self, true),
                    classifier: Linear::new(&classifier, self.hidden_size, id2label.len()),
                    classifier_dropout_prob: self.classifier_dropout_prob,
                };
                ModuleModel::boxed(model, &device)
            }
            Task::MaskedLm => {
                let model = AlbertForMaskedLM {
                    albert: AlbertModel::new(&weights.child("albert"), self, false),
                    predictions: AlbertMLMHead::new(&weights.child("predictions").head(), self),
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
struct AlbertModel {
    embeddings: AlbertEmbeddings,
    encoder: AlbertTransformer,
    pooler: Option<Linear>,
}

impl AlbertModel {
    fn new(weights: &Weights, config: &AlbertConfig, pooler: bool) -> Self {
        let width = config.hidden_size;
        Self {
            embeddings: AlbertEmbeddings::new(&weights.child("embeddings"), config),
            encoder: AlbertTransformer::new(&weights.child("encoder"), config),
            pooler: pooler.then(|| Linear::new(&weights.child("pooler").head(), width, width)),
        }
    }

    /// The depths at which a parameter is used; the mapping into the hidden size counts as embeddings.
    fn uses_of(&self, name: &str) -> Option<std::ops::RangeInclusive<usize>> {
        if name.starts_with("albert.embeddings.")
            || name.starts_with("albert.encoder.embedding_hidden_mapping_in.")
        {
            return Some(0..=0);
        }
        let group = name.strip_prefix("albert.encoder.albert_layer_groups.")?.split('.').next()?;
        let group = group.parse::<usize>().ok()?;
        let mut layers =
            (0..self.encoder.num_hidden_layers).filter(|&layer| self.encoder.group_of(layer) == group);
        let first = layers.next()?;
        Some(first + 1..=layers.next_back().unwrap_or(first) + 1)
    }

    fn pooled(&self, last: &Tensor<3>, dropout: &mut Dropout) -> Option<Tensor<2>> {
        self.pooler.as_ref().map(|pooler| pooler.forward(first_token(last.clone()), dropout).tanh())
    }
}

impl Encoder for AlbertModel {
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        self.encoder.embedding_hidden_mapping_in.forward(self.embeddings.forward(input, dropout), dropout)
    }

    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        self.encoder.layer(n, hidden, wanted, &context.bias, dropout)
    }

    fn num_hidden_layers(&self) -> usize {
        self.encoder.num_hidden_layers
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        self.uses_of(name)?.next_back()
    }

    fn first_layer_of(&self, name: &str) -> Option<usize> {
        self.uses_of(name)?.next()
    }
}

#[derive(Module, Debug)]
struct AlbertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    LayerNorm: LayerNorm,
    #[module(skip)]
    hidden_dropout_prob: f64,
}

impl AlbertEmbeddings {
    fn new(weights: &Weights, config: &AlbertConfig) -> Self {
        let width = config.embedding_size;
        let table = |name, rows, padding| Embedding::new(&weights.child(name), rows, width, padding);
        Self {
            word_embeddings: table("word_embeddings", config.vocab_size, config.pad_token_id),
            position_embeddings: table("position_embeddings", config.max_position_embeddings, None),
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size, None),
            LayerNorm: LayerNorm::new(&weights.child("LayerNorm"), width, config.layer_norm_eps),
            hidden_dropout_prob: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let [_, seq] = input.shape;
        let words = self.word_embeddings.forward(input.input_ids.clone());
        let types = match &input.token_type_ids {
            Some(ids) => self.token_type_embeddings.forward(ids.clone()),
            None => self.token_type_embeddings.first_rows(1),
        };
        let sum = words + types + self.position_embeddings.first_rows(seq);
        dropout.apply(self.LayerNorm.forward(sum), self.hidden_dropout_prob)
    }
}

#[derive(Module, Debug)]
struct AlbertTransformer {
    embedding_hidden_mapping_in: Linear,
    albert_layer_groups: Vec<AlbertLayerGroup>,
    #[module(skip)]
    num_hidden_layers: usize,
}

#[derive(Module, Debug)]
struct AlbertLayerGroup {
    albert_layers: Vec<AlbertLayer>,
}

impl AlbertTransformer {
    fn new(weights: &Weights, config: &AlbertConfig) -> Self {
        let layer = |group: usize, n: usize| {
            let name = format!("albert_layer_groups.{group}.albert_layers.{n}");
            AlbertLayer::new(&weights.child(&name), config)
        };
        let group = |group| AlbertLayerGroup {
            albert_layers: (0..config.inner_group_num).map(|n| layer(group, n)).collect(),
        };
        let mapping = weights.child("embedding_hidden_mapping_in");
        Self {
            embedding_hidden_mapping_in: Linear::new(&mapping, config.embedding_size, config.hidden_size),
            albert_layer_groups: (0..config.num_hidden_groups).map(group).collect(),
            num_hidden_layers: config.num_hidden_layers,
        }
    }

    /// Which group stands in for a layer: `int(i / (num_hidden_layers / num_hidden_groups))`.
    fn group_of(&self, layer: usize) -> usize {
        layer * self.albert_layer_groups.len() / self.num_hidden_layers
    }

    /// Of the layers of a group, the last hands out what is wanted.
    fn layer(
        &self,
        layer: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let layers = &self.albert_layer_groups[self.group_of(layer)].albert_layers;
        let mut output = LayerOutput { hidden, kept: Kept::default() };
        for (n, layer) in layers.iter().enumerate() {
            let wanted = if n + 1 == layers.len() { wanted } else { Wanted::ALL_TOKENS };
            output = layer.forward(output.hidden, wanted, bias, dropout);
        }
        output
    }
}

#[derive(Module, Debug)]
struct AlbertLayer {
    full_layer_layer_norm: LayerNorm,
    attention: AlbertAttention,
    ffn: Linear,
    ffn_output: Linear,
    #[module(skip)]
    hidden_act: Activation,
}

#[derive(Module, Debug)]
struct AlbertAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    LayerNorm: LayerNorm,
    #[module(skip)]
    num_attention_heads: usize,
    #[module(skip)]
    attention_probs_dropout_prob: f64,
    #[module(skip)]
    hidden_dropout_prob: f64,
}

impl AlbertLayer {
    fn new(weights: &Weights, config: &AlbertConfig) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| LayerNorm::new(&weights.child(name), width, config.layer_norm_eps);
        let linear = |name, inputs, outputs| Linear::new(&weights.child(name), inputs, outputs);
        Self {
            full_layer_layer_norm: norm("full_layer_layer_norm"),
            attention: AlbertAttention {
                query: linear("attention.query", width, width),
                key: linear("attention.key", width, width),
                value: linear("attention.value", width, width),
                dense: linear("attention.dense", width, width),
                LayerNorm: norm("attention.LayerNorm"),
                num_attention_heads: config.num_attention_heads,
                attention_probs_dropout_prob: config.attention_probs_dropout_prob,
                hidden_dropout_prob: config.hidden_dropout_prob,
            },
            ffn: linear("ffn", width, inner),
            ffn_output: linear("ffn_output", inner, width),
            hidden_act: config.activation(),
        }
    }

    fn forward(
        &self,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let LayerOutput { hidden: attended, kept } = self.attention.forward(hidden, wanted, bias, dropout);
        let inner = self.ffn.forward(attended.clone(), dropout);
        let output = self.ffn_output.forward_activated(inner, self.hidden_act, dropout);
        LayerOutput { hidden: self.full_layer_layer_norm.forward_sum(output, attended), kept }
    }
}

impl AlbertAttention {
    fn forward(
        &self,
        hidden: Tensor<3>,
        wanted: Wanted,
        bias: &AttentionBias,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let residual = wanted.tokens.of(&hidden);
        let queried = wanted.queried(&hidden, &residual);
        let projected = [
            self.query.forward(queried, dropout),
            self.key.forward(hidden.clone(), dropout),
            self.value.forward(hidden, dropout),
        ];
        let dropout_p = self.attention_probs_dropout_prob;
        let (context, kept) =
            self_attention(projected, self.num_attention_heads, wanted, bias, dropout_p, dropout);
        let x = self.dense.forward(context, dropout);
        let hidden = self.LayerNorm.forward_dropout_sum(x, self.hidden_dropout_prob, dropout, residual);
        LayerOutput { hidden, kept }
    }
}

#[derive(Module, Debug)]
struct AlbertForSequenceClassification {
    albert: AlbertModel,
    classifier: Linear,
    #[module(skip)]
    classifier_dropout_prob: f64,
}

impl Forward for AlbertForSequenceClassification {
    fn encoder(&self) -> &dyn Encoder {
        &self.albert
    }

    fn reads(&self) -> Tokens {
        Tokens::First
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let pooler_output = self.albert.pooled(last, dropout);
        let pooled = pooler_output.clone().unwrap_or_else(|| first_token(last.clone()));
        let logits = Logits::computed(
            self.classifier.forward(dropout.apply(pooled, self.classifier_dropout_prob), dropout),
        );
        HeadOutput { logits, pooler_output }
    }
}

#[derive(Module, Debug)]
struct AlbertForMaskedLM {
    albert: AlbertModel,
    predictions: AlbertMLMHead,
}

#[derive(Module, Debug)]
struct AlbertMLMHead {
    bias: Param<Tensor<1>>,
    dense: Linear,
    LayerNorm: LayerNorm,
    #[module(skip)]
    hidden_act: Activation,
}

impl AlbertMLMHead {
    fn new(weights: &Weights, config: &AlbertConfig) -> Self {
        weights.tied("decoder.weight");
        weights.tied("decoder.bias");
        Self {
            bias: weights.get("bias", [config.vocab_size], Init::Zeros),
            dense: Linear::new(&weights.child("dense"), config.hidden_size, config.embedding_size),
            LayerNorm: LayerNorm::new(
                &weights.child("LayerNorm"),
                config.embedding_size,
                config.layer_norm_eps,
            ),
            hidden_act: config.activation(),
        }
    }
}

impl Forward for AlbertForMaskedLM {
    fn encoder(&self) -> &dyn Encoder {
        &self.albert
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let head = &self.predictions;
        let x = head.LayerNorm.forward(head.hidden_act.forward(head.dense.forward(last.clone(), dropout)));
        let table = self.albert.embeddings.word_embeddings.table();
        HeadOutput { logits: Logits::of_hidden(x, table, Some(head.bias.val())), pooler_output: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ForwardOptions, Layers, ModelOutput};
    use burn::tensor::Device;
    use distill_ops::{DeviceSpec, resolve};
    use serde_json::json;

    fn model(inner_group_num: usize, device: &Device) -> Box<dyn Model> {
        let keys = json!({
            "vocab_size": 30, "embedding_size": 4, "hidden_size": 8, "num_hidden_layers": 4, "num_hidden_groups": 2,
            "inner_group_num": inner_group_num, "num_attention_heads": 2, "intermediate_size": 16,
            "max_position_embeddings": 8,
        });
        let config = (ARCHITECTURE.parse)(keys.as_object().unwrap()).unwrap();
        config.build(&Task::MaskedLm, &Weights::from_seed(3, 0.3, device))
    }

    #[test]
    fn a_group_hands_out_what_its_last_layer_computed() {
        for device in
            [DeviceSpec::Flex, DeviceSpec::NdArray].into_iter().filter_map(|spec| resolve(spec).ok())
        {
            let input = ModelInput::new(&[2, 5, 9, 3, 7, 1], &[1, 1, 1, 1, 1, 0], None, [2, 3], &device);
            let options = ForwardOptions {
                hidden_states: true,
                attention_scores: Layers::ALL,
                queries_keys_values: Layers::of([1]),
                ..ForwardOptions::default()
            };
            let run = |inner| model(inner, &device).forward(&input, options, &mut Dropout::off());
            let (one, two) = (run(1), run(2));
            assert_eq!(two.attention_scores.len(), 4);
            assert_eq!(two.queries_keys_values.len(), 1);
            assert_eq!(two.hidden_states.as_ref().map(Vec::len), Some(5));
            // The first layers of both have the same weights and inputs; the second has others.
            let scores = |output: &ModelOutput| output.attention_scores[0].clone().into_data();
            assert_ne!(scores(&one), scores(&two));
        }
    }
}
