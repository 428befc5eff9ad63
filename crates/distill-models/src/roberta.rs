//! RoBERTa and XLM-RoBERTa; Liu et al. 2019 (arXiv:1907.11692), Conneau et al. 2019 (arXiv:1911.02116).
//!
//! Follows `RobertaEmbeddings`, `RobertaClassificationHead`, `RobertaForSequenceClassification`, `RobertaLMHead` and
//! `RobertaForMaskedLM` in Transformers' `models/roberta/modeling_roberta.py`; XLM-RoBERTa is the same network under
//! another name. The encoder is BERT's.

#![allow(non_snake_case)] // fields are named as in checkpoints: `LayerNorm`

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use distill_ops::{Dropout, gelu};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, ENCODER_TASKS, Vocabulary};
use crate::bert_config::{BertConfig, BertScratch};
use crate::bert_encoder::{BertEncoder, depth};
use crate::config::{read_keys, read_scratch};
use crate::layer_context::LayerContext;
use crate::layer_output::{LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, LayerNorm, Linear, first_token};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel, upload};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, ConfigError, Sizes, Task};

pub(crate) const ROBERTA: Architecture = Architecture {
    model_type: "roberta",
    class: "Roberta",
    tasks: ENCODER_TASKS,
    parse,
    scratch,
    schema: || schemars::schema_for!(BertScratch),
};

pub(crate) const XLM_ROBERTA: Architecture = Architecture {
    model_type: "xlm-roberta",
    class: "XLMRoberta",
    tasks: ENCODER_TASKS,
    parse,
    scratch,
    schema: ROBERTA.schema,
};

/// `RobertaConfig`'s defaults where they differ from `BertConfig`'s.
const VOCAB_SIZE: usize = 50_265;
const PAD_TOKEN_ID: u32 = 1;

fn parse(keys: &Map<String, Value>) -> Result<Box<dyn BaseModelConfig>, ConfigError> {
    let mut config: BertConfig = read_keys(keys)?;
    if !keys.contains_key("pad_token_id") {
        config.pad_token_id = Some(PAD_TOKEN_ID);
    }
    if !keys.contains_key("vocab_size") {
        config.vocab_size = VOCAB_SIZE;
    }
    check(config).map_err(|mut faults| faults.swap_remove(0))
}

fn scratch(
    table: &Map<String, Value>,
    vocabulary: Vocabulary,
) -> Result<Box<dyn BaseModelConfig>, Vec<ConfigError>> {
    check(read_scratch::<BertScratch>(table)?.into_config(vocabulary, 1))
}

fn check(config: BertConfig) -> Result<Box<dyn BaseModelConfig>, Vec<ConfigError>> {
    let mut checks = config.check();
    let roberta = Roberta(config);
    let (rows, reserved) = (roberta.0.max_position_embeddings, roberta.padding() as usize + 1);
    if rows <= reserved {
        let expected = format!("must be above {reserved}, the positions reserved for padding");
        checks.fail(ConfigError::value("max_position_embeddings", rows, expected));
    }
    checks.finish()?;
    Ok(Box::new(roberta))
}

#[derive(Debug, Clone)]
struct Roberta(BertConfig);

impl Roberta {
    fn padding(&self) -> u32 {
        self.0.pad_token_id.unwrap_or(PAD_TOKEN_ID)
    }
}

impl BaseModelConfig for Roberta {
    fn sizes(&self) -> Sizes {
        let reserved_positions = self.padding() as usize + 1;
        Sizes {
            vocab_size: self.0.vocab_size,
            hidden_size: self.0.hidden_size,
            embedding_size: self.0.hidden_size,
            num_hidden_layers: self.0.num_hidden_layers,
            num_attention_heads: self.0.num_attention_heads,
            intermediate_size: self.0.intermediate_size,
            max_length: self.0.max_position_embeddings.saturating_sub(reserved_positions),
            reserved_positions,
            pad_token_id: self.0.pad_token_id,
            type_vocab_size: self.0.type_vocab_size,
            initializer_range: self.0.initializer_range,
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        self.0.to_json()
    }

    fn set_dropout(&mut self, p: f64) {
        self.0.set_dropout(p);
    }

    fn build(&self, task: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        let roberta = RobertaModel::new(&weights.child("roberta"), self);
        let width = self.0.hidden_size;
        match task {
            Task::Classification { id2label } => {
                let head = weights.child("classifier").head();
                let classifier = RobertaClassificationHead {
                    dense: Linear::new(&head.child("dense"), width, width),
                    out_proj: Linear::new(&head.child("out_proj"), width, id2label.len()),
                    classifier_dropout: self.0.head_dropout(),
                };
                ModuleModel::boxed(RobertaForSequenceClassification { roberta, classifier }, &device)
            }
            Task::MaskedLm => {
                let head = weights.child("lm_head").head();
                head.tied("decoder.weight");
                head.tied("decoder.bias");
                let lm_head = RobertaLMHead {
                    bias: head.get("bias", [self.0.vocab_size], Init::Zeros),
                    dense: Linear::new(&head.child("dense"), width, width),
                    layer_norm: LayerNorm::new(&head.child("layer_norm"), width, self.0.layer_norm_eps),
                };
                ModuleModel::boxed(RobertaForMaskedLM { roberta, lm_head }, &device)
            }
            Task::CausalLm | Task::Seq2SeqLm => unreachable!("{}", task.kind().not_asked()),
        }
    }

    fn clone_box(&self) -> Box<dyn BaseModelConfig> {
        Box::new(self.clone())
    }
}

#[derive(Module, Debug)]
struct RobertaModel {
    embeddings: RobertaEmbeddings,
    encoder: BertEncoder,
}

impl RobertaModel {
    fn new(weights: &Weights, config: &Roberta) -> Self {
        Self {
            embeddings: RobertaEmbeddings::new(&weights.child("embeddings"), config),
            encoder: BertEncoder::new(&weights.child("encoder"), config.0.encoder()),
        }
    }
}

impl Encoder for RobertaModel {
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        self.embeddings.forward(input, dropout)
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
        self.encoder.num_hidden_layers()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        depth(name, "roberta.embeddings.", "roberta.encoder.layer.")
    }
}

#[derive(Module, Debug)]
struct RobertaEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    LayerNorm: LayerNorm,
    #[module(skip)]
    type_vocab_size: usize,
    #[module(skip)]
    padding: u32,
    #[module(skip)]
    hidden_dropout_prob: f64,
}

impl RobertaEmbeddings {
    fn new(weights: &Weights, roberta: &Roberta) -> Self {
        let config = &roberta.0;
        let padding = Some(roberta.padding());
        let table =
            |name, rows, padding| Embedding::new(&weights.child(name), rows, config.hidden_size, padding);
        Self {
            word_embeddings: table("word_embeddings", config.vocab_size, padding),
            position_embeddings: table("position_embeddings", config.max_position_embeddings, padding),
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size, None),
            LayerNorm: LayerNorm::new(&weights.child("LayerNorm"), config.hidden_size, config.layer_norm_eps),
            type_vocab_size: config.type_vocab_size,
            padding: roberta.padding(),
            hidden_dropout_prob: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let words = self.word_embeddings.forward(input.input_ids.clone());
        // Most checkpoints have one type; a tokenizer that marks pairs must not index beyond it.
        let types = match &input.token_type_ids {
            Some(ids) if self.type_vocab_size > 1 => self.token_type_embeddings.forward(ids.clone()),
            _ => self.token_type_embeddings.first_rows(1),
        };
        let positions = position_ids(&input.host_input_ids, input.shape, self.padding);
        let positions = upload(&positions, input.shape, &input.input_ids.device());
        let sum = words + types + self.position_embeddings.forward(positions);
        dropout.apply(self.LayerNorm.forward(sum), self.hidden_dropout_prob)
    }
}

/// Tokens are numbered from `padding + 1`, padding has position `padding`: `create_position_ids_from_input_ids`.
fn position_ids(input_ids: &[u32], [_, seq]: [usize; 2], padding: u32) -> Vec<u32> {
    let mut positions = Vec::with_capacity(input_ids.len());
    for row in input_ids.chunks(seq.max(1)) {
        let mut last = padding;
        positions.extend(row.iter().map(|&id| {
            if id == padding {
                return padding;
            }
            last += 1;
            last
        }));
    }
    positions
}

#[derive(Module, Debug)]
struct RobertaForSequenceClassification {
    roberta: RobertaModel,
    classifier: RobertaClassificationHead,
}

#[derive(Module, Debug)]
struct RobertaClassificationHead {
    dense: Linear,
    out_proj: Linear,
    #[module(skip)]
    classifier_dropout: f64,
}

impl Forward for RobertaForSequenceClassification {
    fn encoder(&self) -> &dyn Encoder {
        &self.roberta
    }

    fn reads(&self) -> Tokens {
        Tokens::First
    }

    /// There is no pooler.
    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let head = &self.classifier;
        let x = dropout.apply(first_token(last.clone()), head.classifier_dropout);
        let x = head.dense.forward(x, dropout).tanh();
        let x = dropout.apply(x, head.classifier_dropout);
        HeadOutput { logits: Logits::computed(head.out_proj.forward(x, dropout)), pooler_output: None }
    }
}

#[derive(Module, Debug)]
struct RobertaForMaskedLM {
    roberta: RobertaModel,
    lm_head: RobertaLMHead,
}

#[derive(Module, Debug)]
struct RobertaLMHead {
    bias: Param<Tensor<1>>,
    dense: Linear,
    layer_norm: LayerNorm,
}

impl Forward for RobertaForMaskedLM {
    fn encoder(&self) -> &dyn Encoder {
        &self.roberta
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        // `RobertaLMHead` has a GELU whatever `hidden_act` says.
        let x = gelu(self.lm_head.dense.forward(last.clone(), dropout));
        let x = self.lm_head.layer_norm.forward(x);
        let table = self.roberta.embeddings.word_embeddings.table();
        HeadOutput { logits: Logits::of_hidden(x, table, Some(self.lm_head.bias.val())), pooler_output: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn positions_start_after_the_padding_id() {
        assert_eq!(position_ids(&[0, 7, 2, 1, 0, 1, 9, 2], [2, 4], 1), [2, 3, 4, 1, 2, 1, 3, 4]);
    }

    #[test]
    fn reserved_positions_shorten_the_rows() {
        let config = ROBERTA.from_scratch(&json!({"max_position_embeddings": 130}), 100, 1).unwrap();
        assert_eq!(config.max_length(), 128);
        assert_eq!(config.type_vocab_size(), 1);
        let faults = ROBERTA.from_scratch(&json!({"max_position_embeddings": 2}), 100, 1).unwrap_err();
        assert!(faults[0].to_string().contains("`max_position_embeddings` must be above 2"), "{faults:?}");
    }
}
