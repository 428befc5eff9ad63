//! BERT; Devlin et al. 2018 (arXiv:1810.04805).
//!
//! Follows `BertEmbeddings`, `BertPooler`, `BertForSequenceClassification`, `BertLMPredictionHead` and `BertForMaskedLM`
//! in Transformers' `models/bert/modeling_bert.py`.

#![allow(non_snake_case)] // fields are named as in checkpoints: `LayerNorm`

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use distill_ops::{Activation, Dropout};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, ENCODER_TASKS};
use crate::bert_config::{BertConfig, BertScratch};
use crate::bert_encoder::{BertEncoder, depth};
use crate::config::{read_keys, read_scratch};
use crate::layer_context::LayerContext;
use crate::layer_output::{LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, LayerNorm, Linear, first_token};
use crate::logits::Logits;
use crate::model::{Encoder, Forward, HeadOutput, Model, ModelInput, ModuleModel};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, Sizes, Task};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    model_type: "bert",
    class: "Bert",
    tasks: ENCODER_TASKS,
    parse: |keys| {
        let config: BertConfig = read_keys(keys)?;
        config.check().finish_first()?;
        Ok(Box::new(Bert(config)))
    },
    scratch: |table, vocabulary| {
        let config = read_scratch::<BertScratch>(table)?.into_config(vocabulary, 2);
        config.check().finish()?;
        Ok(Box::new(Bert(config)))
    },
    schema: || schemars::schema_for!(BertScratch),
};

#[derive(Debug, Clone)]
struct Bert(BertConfig);

impl BaseModelConfig for Bert {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.0.vocab_size,
            hidden_size: self.0.hidden_size,
            embedding_size: self.0.hidden_size,
            num_hidden_layers: self.0.num_hidden_layers,
            num_attention_heads: self.0.num_attention_heads,
            intermediate_size: self.0.intermediate_size,
            max_length: self.0.max_position_embeddings,
            reserved_positions: 0,
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
        match task {
            Task::Classification { id2label } => {
                let model = BertForSequenceClassification {
                    bert: BertModel::new(&weights.child("bert"), &self.0, true),
                    classifier: Linear::new(
                        &weights.child("classifier").head(),
                        self.0.hidden_size,
                        id2label.len(),
                    ),
                    classifier_dropout: self.0.head_dropout(),
                };
                ModuleModel::boxed(model, &device)
            }
            Task::MaskedLm => {
                let model = BertForMaskedLM {
                    bert: BertModel::new(&weights.child("bert"), &self.0, false),
                    cls: BertOnlyMLMHead { predictions: BertLMPredictionHead::new(weights, &self.0) },
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
struct BertModel {
    embeddings: BertEmbeddings,
    encoder: BertEncoder,
    pooler: Option<BertPooler>,
}

impl BertModel {
    fn new(weights: &Weights, config: &BertConfig, pooler: bool) -> Self {
        Self {
            embeddings: BertEmbeddings::new(&weights.child("embeddings"), config),
            encoder: BertEncoder::new(&weights.child("encoder"), config.encoder()),
            pooler: pooler.then(|| BertPooler {
                dense: Linear::new(
                    &weights.child("pooler.dense").head(),
                    config.hidden_size,
                    config.hidden_size,
                ),
            }),
        }
    }

    fn pooled(&self, last: &Tensor<3>, dropout: &mut Dropout) -> Option<Tensor<2>> {
        self.pooler.as_ref().map(|pooler| pooler.dense.forward(first_token(last.clone()), dropout).tanh())
    }
}

impl Encoder for BertModel {
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
        depth(name, "bert.embeddings.", "bert.encoder.layer.")
    }
}

#[derive(Module, Debug)]
struct BertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    LayerNorm: LayerNorm,
    #[module(skip)]
    hidden_dropout_prob: f64,
}

impl BertEmbeddings {
    fn new(weights: &Weights, config: &BertConfig) -> Self {
        let table =
            |name, rows, padding| Embedding::new(&weights.child(name), rows, config.hidden_size, padding);
        Self {
            word_embeddings: table("word_embeddings", config.vocab_size, config.pad_token_id),
            position_embeddings: table("position_embeddings", config.max_position_embeddings, None),
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size, None),
            LayerNorm: LayerNorm::new(&weights.child("LayerNorm"), config.hidden_size, config.layer_norm_eps),
            hidden_dropout_prob: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let [_, seq] = input.shape;
        let words = self.word_embeddings.forward(input.input_ids.clone());
        let positions = self.position_embeddings.first_rows(seq);
        let types = match &input.token_type_ids {
            Some(ids) => self.token_type_embeddings.forward(ids.clone()),
            None => self.token_type_embeddings.first_rows(1),
        };
        let sum = words + types + positions;
        dropout.apply(self.LayerNorm.forward(sum), self.hidden_dropout_prob)
    }
}

#[derive(Module, Debug)]
struct BertPooler {
    dense: Linear,
}

#[derive(Module, Debug)]
struct BertForSequenceClassification {
    bert: BertModel,
    classifier: Linear,
    #[module(skip)]
    classifier_dropout: f64,
}

impl Forward for BertForSequenceClassification {
    fn encoder(&self) -> &dyn Encoder {
        &self.bert
    }

    fn reads(&self) -> Tokens {
        Tokens::First
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let pooler_output = self.bert.pooled(last, dropout);
        let pooled = pooler_output.clone().unwrap_or_else(|| first_token(last.clone()));
        let logits = Logits::computed(
            self.classifier.forward(dropout.apply(pooled, self.classifier_dropout), dropout),
        );
        HeadOutput { logits, pooler_output }
    }
}

#[derive(Module, Debug)]
struct BertForMaskedLM {
    bert: BertModel,
    cls: BertOnlyMLMHead,
}

#[derive(Module, Debug)]
struct BertOnlyMLMHead {
    predictions: BertLMPredictionHead,
}

#[derive(Module, Debug)]
struct BertLMPredictionHead {
    bias: Param<Tensor<1>>,
    transform: BertPredictionHeadTransform,
    #[module(skip)]
    hidden_act: Activation,
}

#[derive(Module, Debug)]
struct BertPredictionHeadTransform {
    dense: Linear,
    LayerNorm: LayerNorm,
}

impl BertLMPredictionHead {
    fn new(weights: &Weights, config: &BertConfig) -> Self {
        let weights = weights.child("cls.predictions").head();
        weights.tied("decoder.weight");
        weights.tied("decoder.bias");
        let transform = weights.child("transform");
        Self {
            bias: weights.get("bias", [config.vocab_size], Init::Zeros),
            transform: BertPredictionHeadTransform {
                dense: Linear::new(&transform.child("dense"), config.hidden_size, config.hidden_size),
                LayerNorm: LayerNorm::new(
                    &transform.child("LayerNorm"),
                    config.hidden_size,
                    config.layer_norm_eps,
                ),
            },
            hidden_act: config.encoder().hidden_act,
        }
    }
}

impl Forward for BertForMaskedLM {
    fn encoder(&self) -> &dyn Encoder {
        &self.bert
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        let head = &self.cls.predictions;
        let x = head.hidden_act.forward(head.transform.dense.forward(last.clone(), dropout));
        let x = head.transform.LayerNorm.forward(x);
        let table = self.bert.embeddings.word_embeddings.table();
        HeadOutput { logits: Logits::of_hidden(x, table, Some(head.bias.val())), pooler_output: None }
    }
}
