//! Methods of the literature as lists of losses.

use super::attention::Attention;
use super::cosine::Cosine;
use super::embeddings::Embeddings;
use super::hard_labels::HardLabels;
use super::hidden_states::HiddenStates;
use super::layer_map::LayerMap;
use super::masked_lm::MaskedLm;
use super::relations::Relations;
use super::soft_labels::SoftLabels;
use super::{Level, ObjectiveConfig};
use distill_recipe::Method;

type Configs = Vec<Box<dyn ObjectiveConfig>>;

/// What a run without a teacher minimises.
pub fn usual_losses(level: Level) -> Configs {
    vec![labels(level, 1.0)]
}

/// The losses that a method stands for; `temperature` replaces that of its soft labels.
///
/// - `soft_labels` (Hinton et al. 2015): 0.3 labels + 0.7 soft labels at T = 2.
/// - `distilbert` (Sanh et al. 2019): 5 soft labels at T = 2 + 2 labels (of hidden tokens, for a language model) + 1 cosine.
/// - `tinybert` (Jiao et al. 2020): attention + hidden states + embeddings; for a classifier also soft labels at T = 1,
///   which the paper has in a stage of their own.
/// - `minilm` (Wang et al. 2021): relations; for a classifier also soft labels at T = 2, since the paper fine-tunes later.
pub fn method_losses(method: Method, level: Level, temperature: Option<f64>) -> Configs {
    let soft = |weight: f64, usual: f64| -> Box<dyn ObjectiveConfig> {
        Box::new(SoftLabels { weight, temperature: temperature.unwrap_or(usual) })
    };
    let of_classifier = |loss| (level == Level::Sequence).then_some(loss);
    match method {
        Method::SoftLabels => vec![labels(level, 0.3), soft(0.7, 2.0)],
        Method::Distilbert => vec![soft(5.0, 2.0), labels(level, 2.0), Box::new(Cosine { weight: 1.0 })],
        Method::Tinybert => {
            let mut losses: Configs = vec![
                Box::new(Attention { weight: 1.0, layer_map: LayerMap::default() }),
                Box::new(HiddenStates { weight: 1.0, layer_map: LayerMap::default() }),
                Box::new(Embeddings { weight: 1.0 }),
            ];
            losses.extend(of_classifier(soft(1.0, 1.0)));
            losses
        }
        Method::Minilm => {
            let mut losses: Configs =
                vec![Box::new(Relations { weight: 1.0, relation_heads: None, teacher_layer: None })];
            losses.extend(of_classifier(soft(1.0, 2.0)));
            losses
        }
    }
}

fn labels(level: Level, weight: f64) -> Box<dyn ObjectiveConfig> {
    match level {
        Level::Sequence => Box::new(HardLabels { weight }),
        Level::Token => Box::new(MaskedLm { weight }),
    }
}
