//! Methods of the literature as lists of losses.

use super::attention::{self, Attention};
use super::cosine::{self, Cosine};
use super::embeddings::{self, Embeddings};
use super::forward_kl::{self, ForwardKl};
use super::hard_labels::{self, HardLabels};
use super::hidden_states::{self, HiddenStates};
use super::jsd::{self, Jsd};
use super::layer_map::LayerMap;
use super::masked_lm::{self, MaskedLm};
use super::next_token::{self, NextToken};
use super::relations::{self, Relations};
use super::reverse_kl::{self, ReverseKl};
use super::soft_labels::{self, SoftLabels};
use super::{Level, LossConfig};
use distill_recipe::Method;

/// What a run without a teacher minimises.
pub fn usual_losses(level: Level) -> Vec<LossConfig> {
    vec![labels(level, 1.0)]
}

/// The losses that a method stands for; `temperature` replaces that of its soft labels or divergence.
///
/// - `soft_labels` (Hinton et al. 2015): 0.3 labels + 0.7 soft labels at T = 2.
/// - `distilbert` (Sanh et al. 2019): 5 soft labels at T = 2 + 2 labels (of hidden tokens, for a language model) + 1 cosine.
/// - `tinybert` (Jiao et al. 2020): attention + hidden states + embeddings; for a classifier also soft labels at T = 1,
///   which the paper has in a stage of their own.
/// - `minilm` (Wang et al. 2021): relations; for a classifier also soft labels at T = 2, since the paper fine-tunes later.
/// - `forward_kl`, `reverse_kl`, `jsd` of models that write texts: 0.5 of the divergence at T = 1 + 0.5 of the data's next
///   tokens, as MiniLLM weighs both where it compares (Gu et al. 2023, §3.1, arXiv:2306.08543).
/// - `gkd` (Agarwal et al. 2023): the divergence by Jensen and Shannon alone, on the student's own texts in half of the steps.
/// - `sequence_level` (Kim and Rush 2016): next tokens of texts that the teacher wrote.
pub fn method_losses(method: Method, level: Level, temperature: Option<f64>) -> Vec<LossConfig> {
    let soft = |weight: f64, usual: f64| {
        let temperature = temperature.unwrap_or(usual);
        LossConfig::new(&soft_labels::KIND, SoftLabels { weight, temperature })
    };
    let of_classifier = |loss| (level == Level::Sequence).then_some(loss);
    match method {
        Method::SoftLabels => vec![labels(level, 0.3), soft(0.7, 2.0)],
        Method::Distilbert => {
            let cosine = LossConfig::new(&cosine::KIND, Cosine { weight: 1.0 });
            vec![soft(5.0, 2.0), labels(level, 2.0), cosine]
        }
        Method::Tinybert => {
            let layer_map = LayerMap::default;
            let mut losses = vec![
                LossConfig::new(&attention::KIND, Attention { weight: 1.0, layer_map: layer_map() }),
                LossConfig::new(&hidden_states::KIND, HiddenStates { weight: 1.0, layer_map: layer_map() }),
                LossConfig::new(&embeddings::KIND, Embeddings { weight: 1.0 }),
            ];
            losses.extend(of_classifier(soft(1.0, 1.0)));
            losses
        }
        Method::Minilm => {
            let relations = Relations { weight: 1.0, relation_heads: None, teacher_layer: None };
            let mut losses = vec![LossConfig::new(&relations::KIND, relations)];
            losses.extend(of_classifier(soft(1.0, 2.0)));
            losses
        }
        Method::ForwardKl => {
            let loss =
                ForwardKl { weight: 0.5, temperature: temperature.unwrap_or(1.0), position_decay: 1.0 };
            vec![labels(level, 0.5), LossConfig::new(&forward_kl::KIND, loss)]
        }
        Method::ReverseKl => {
            let loss =
                ReverseKl { weight: 0.5, temperature: temperature.unwrap_or(1.0), position_decay: 1.0 };
            vec![labels(level, 0.5), LossConfig::new(&reverse_kl::KIND, loss)]
        }
        Method::Jsd => vec![labels(level, 0.5), jensen_shannon(0.5, temperature)],
        Method::Gkd => vec![jensen_shannon(1.0, temperature)],
        Method::SequenceLevel => vec![labels(level, 1.0)],
    }
}

fn jensen_shannon(weight: f64, temperature: Option<f64>) -> LossConfig {
    let temperature = temperature.unwrap_or(1.0);
    LossConfig::new(&jsd::KIND, Jsd { weight, temperature, beta: 0.5, position_decay: 1.0 })
}

fn labels(level: Level, weight: f64) -> LossConfig {
    match level {
        Level::Sequence => LossConfig::new(&hard_labels::KIND, HardLabels { weight }),
        Level::Token => LossConfig::new(&masked_lm::KIND, MaskedLm { weight }),
        Level::NextToken => LossConfig::new(&next_token::KIND, NextToken { weight }),
    }
}
