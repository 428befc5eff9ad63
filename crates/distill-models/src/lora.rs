//! Low-rank adapters: `W x + (alpha / r) · B A x` with `W` frozen; Hu et al. 2021, §4.1 (arXiv:2106.09685).
//!
//! Names, defaults and files are those of PEFT (`adapter_config.json`, `adapter_model.safetensors`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use distill_ops::Dropout;
use regex::Regex;

/// One of the two factors: `A` is `[r, in]`, `B` is `[out, r]`.
#[derive(Module, Debug)]
pub(crate) struct LoraFactor {
    pub(crate) weight: Param<Tensor<2>>,
}

/// The numbers of one adapted layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoraSettings {
    pub(crate) r: usize,
    /// `alpha / r`, or `alpha / √r`.
    pub(crate) scaling: f64,
    /// Dropout of the adapter's input.
    pub(crate) dropout: f64,
}

impl LoraSettings {
    /// `scaling · B A dropout(x)`.
    pub(crate) fn forward<const D: usize>(
        self,
        x: Tensor<D>,
        a: &LoraFactor,
        b: &LoraFactor,
        dropout: &mut Dropout,
    ) -> Tensor<D> {
        let narrow = distill_ops::linear(dropout.apply(x, self.dropout), a.weight.val(), None);
        distill_ops::linear(narrow * self.scaling, b.weight.val(), None)
    }
}

/// Which layers are adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Every dense layer but the output layer and a new head: PEFT's `"all-linear"`.
    AllLinear,
    /// Layers whose name is one of these or ends in `.` and one of these.
    Names(Vec<String>),
    /// Layers whose whole name the expression matches.
    Pattern(String),
}

impl TargetModules {
    /// Whether a layer is one of them; `is_head` tells the output layer and heads.
    fn matches(&self, name: &str, is_head: bool) -> bool {
        match self {
            Self::AllLinear => !is_head,
            Self::Names(names) => names.iter().any(|target| {
                name.strip_suffix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
            Self::Pattern(pattern) => {
                Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(name))
            }
        }
    }
}

/// What is adapted, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the adapters.
    pub r: usize,
    /// `alpha`: the adapter's part is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Dropout of the adapters' input; fraction.
    pub lora_dropout: f64,
    /// Which layers.
    pub target_modules: TargetModules,
    /// Multiply by `lora_alpha / √r` instead; Kalajdzievski 2023 (arXiv:2312.03732).
    pub use_rslora: bool,
    /// Layers that learn as a whole and are saved with the adapters; a classifier's head and other
    /// new layers are without being named.
    pub modules_to_save: Vec<String>,
}

impl LoraConfig {
    /// The settings of the layer `name`, if it is adapted.
    pub(crate) fn of(&self, name: &str, is_head: bool) -> Option<LoraSettings> {
        self.target_modules.matches(name, is_head).then(|| LoraSettings {
            r: self.r,
            scaling: self.scaling(),
            dropout: self.lora_dropout,
        })
    }

    /// What `B A x` is multiplied by.
    pub fn scaling(&self) -> f64 {
        let r = self.r.max(1) as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether a parameter is in the adapter's file: a factor, or part of a layer that learns as a whole.
    pub fn holds(&self, parameter: &str) -> bool {
        is_factor(parameter) || self.saves(parameter)
    }

    /// Whether a parameter belongs to one of `modules_to_save`.
    fn saves(&self, parameter: &str) -> bool {
        let Some((module, _)) = parameter.rsplit_once('.') else { return false };
        self.modules_to_save.iter().any(|name| {
            // The module itself, or anything inside of it.
            let parts: Vec<&str> = module.split('.').collect();
            let wanted: Vec<&str> = name.split('.').collect();
            parts.windows(wanted.len().max(1)).any(|window| window == wanted)
        })
    }
}

/// Whether a parameter is a factor of an adapter.
pub(crate) fn is_factor(parameter: &str) -> bool {
    parameter.ends_with(".lora_A.weight") || parameter.ends_with(".lora_B.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(target_modules: TargetModules) -> LoraConfig {
        LoraConfig {
            r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules,
            use_rslora: false,
            modules_to_save: vec!["classifier".to_owned()],
        }
    }

    #[test]
    fn names_match_whole_words_from_the_end() {
        let names = config(TargetModules::Names(vec!["q_proj".to_owned(), "mlp.up_proj".to_owned()]));
        for (name, adapted) in [
            ("model.layers.0.self_attn.q_proj", true),
            ("q_proj", true),
            ("model.layers.0.self_attn.my_q_proj", false),
            ("model.layers.0.mlp.up_proj", true),
            ("model.layers.0.up_proj", false),
        ] {
            assert_eq!(names.of(name, false).is_some(), adapted, "{name}");
        }
        let pattern = config(TargetModules::Pattern(r".*\.[01]\.self_attn\..*".to_owned()));
        assert!(pattern.of("model.layers.1.self_attn.k_proj", false).is_some());
        assert!(pattern.of("model.layers.2.self_attn.k_proj", false).is_none());
        let all = config(TargetModules::AllLinear);
        assert!(all.of("anything", false).is_some() && all.of("lm_head", true).is_none());
    }

    #[test]
    fn scaling_is_alpha_over_r() {
        let mut config = config(TargetModules::AllLinear);
        assert_eq!(config.scaling(), 2.0);
        config.use_rslora = true;
        assert_eq!(config.scaling(), 4.0);
    }

    #[test]
    fn an_adapter_holds_its_factors_and_what_learns_as_a_whole() {
        let config = config(TargetModules::AllLinear);
        for (name, held) in [
            ("bert.encoder.layer.0.output.dense.lora_A.weight", true),
            ("bert.encoder.layer.0.output.dense.weight", false),
            ("classifier.weight", true),
            ("classifier.dense.bias", true),
            ("bert.classifiers.weight", false),
        ] {
            assert_eq!(config.holds(name), held, "{name}");
        }
    }
}
