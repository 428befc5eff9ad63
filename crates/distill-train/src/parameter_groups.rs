//! Which parameters are trained, and each one's weight decay and share of the learning rate.

use distill_models::{LoraConfig, Model, ParameterInfo};
use regex::Regex;

/// How one parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Decoupled weight decay of this parameter.
    pub weight_decay: f64,
    /// Factor on the schedule's learning rate.
    pub learning_rate_scale: f64,
}

/// The rules of a recipe's `[train]` table that differ between parameters.
#[derive(Clone, Debug)]
pub struct GroupRules {
    /// Decay of matrices; biases and norms, which are vectors, have none.
    pub weight_decay: f64,
    /// Parameters whose name matches one of these are not trained.
    pub freeze: Vec<Regex>,
    /// The adapters, which are then all that is trained, with what is saved beside them.
    pub lora: Option<LoraConfig>,
    /// Factor on the learning rate for each layer further from the head (ELECTRA, arXiv:2003.10555, appendix A).
    pub layerwise_lr_decay: Option<f64>,
    /// Encoder layers of the model.
    pub num_hidden_layers: usize,
}

impl GroupRules {
    /// Whether the parameter with this name is trained.
    pub fn trainable(&self, name: &str) -> bool {
        let adapted = self.lora.as_ref().is_none_or(|lora| lora.holds(name));
        adapted && !self.freeze.iter().any(|pattern| pattern.is_match(name))
    }

    /// The group of a parameter in layer `layer`: 0 for the embeddings, 1.. for encoder layers, `None` for the head.
    pub fn group(&self, parameter: &ParameterInfo, layer: Option<usize>) -> ParameterGroup {
        let weight_decay = if parameter.shape.len() > 1 { self.weight_decay } else { 0.0 };
        let learning_rate_scale = match (self.layerwise_lr_decay, layer) {
            (Some(decay), Some(layer)) => {
                let distance = (self.num_hidden_layers + 1).saturating_sub(layer);
                decay.powi(i32::try_from(distance).unwrap_or(i32::MAX))
            }
            _ => 1.0,
        };
        ParameterGroup { weight_decay, learning_rate_scale }
    }

    /// Patterns of `freeze` that match no parameter of the model: most likely misspelt.
    pub fn unmatched_patterns(&self, model: &dyn Model) -> Vec<String> {
        let parameters = model.parameters();
        let unused = |pattern: &&Regex| !parameters.iter().any(|parameter| pattern.is_match(&parameter.name));
        self.freeze.iter().filter(unused).map(|pattern| pattern.as_str().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(layerwise_lr_decay: Option<f64>) -> GroupRules {
        let freeze = vec![Regex::new(r"embeddings\.").expect("a valid pattern")];
        GroupRules { weight_decay: 0.01, freeze, lora: None, layerwise_lr_decay, num_hidden_layers: 2 }
    }

    fn parameter(name: &str, shape: &[usize]) -> ParameterInfo {
        ParameterInfo { name: name.to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn vectors_have_no_weight_decay() {
        let rules = rules(None);
        assert_eq!(rules.group(&parameter("classifier.bias", &[4]), None).weight_decay, 0.0);
        assert_eq!(rules.group(&parameter("classifier.weight", &[4, 8]), None).weight_decay, 0.01);
    }

    #[test]
    fn rate_shrinks_towards_the_embeddings() {
        let rules = rules(Some(0.5));
        let scale = |layer| rules.group(&parameter("w", &[2, 2]), layer).learning_rate_scale;
        assert_eq!([scale(None), scale(Some(2)), scale(Some(1)), scale(Some(0))], [1.0, 0.5, 0.25, 0.125]);
    }

    #[test]
    fn frozen_by_pattern() {
        assert!(!rules(None).trainable("bert.embeddings.word_embeddings.weight"));
        assert!(rules(None).trainable("classifier.weight"));
    }
}
