//! The registry's line of one architecture.

use std::fmt;

use schemars::Schema;
use serde_json::{Map, Value};

use crate::config::closest;
use crate::{ARCHITECTURES, BaseModelConfig, ConfigError, Task};

/// An architecture that can be loaded, built from scratch and saved.
pub struct Architecture {
    /// `model_type` in `config.json`, and the name in recipes.
    pub model_type: &'static str,
    /// The start of Hugging Face's class names: `Bert`.
    pub class: &'static str,
    /// What it can be used for; the first is what a checkpoint without a head is taken for.
    pub tasks: &'static [TaskKind],
    /// Reads the keys of a `config.json`; unknown keys are passed over.
    pub(crate) parse: Parse,
    /// Reads a recipe's table; strict.
    pub(crate) scratch: Scratch,
    /// The JSON Schema of that table.
    pub(crate) schema: fn() -> Schema,
}

/// What a model can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// Labels for whole texts.
    Classification,
    /// Hidden tokens.
    MaskedLm,
    /// The next token.
    CausalLm,
    /// A text that answers another.
    Seq2SeqLm,
}

impl TaskKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::MaskedLm => "masked language modelling",
            Self::CausalLm => "language modelling",
            Self::Seq2SeqLm => "sequence-to-sequence tasks",
        }
    }
}

impl TaskKind {
    /// Why an architecture never builds a head that is not among its tasks.
    pub(crate) fn not_asked(self) -> String {
        format!("{} was asked for before: `Architecture::supports`", self.name())
    }
}

/// What encoders can be used for.
pub(crate) const ENCODER_TASKS: &[TaskKind] = &[TaskKind::Classification, TaskKind::MaskedLm];

type Parse = fn(&Map<String, Value>) -> Result<Box<dyn BaseModelConfig>, ConfigError>;
type Scratch = fn(&Map<String, Value>, Vocabulary) -> Result<Box<dyn BaseModelConfig>, Vec<ConfigError>>;

/// What the tokenizer decides about a model from scratch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vocabulary {
    pub(crate) size: usize,
    pub(crate) pad_token_id: u32,
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Architecture").field("model_type", &self.model_type).finish_non_exhaustive()
    }
}

impl Architecture {
    /// Whether there is a head for this.
    pub fn supports(&self, task: TaskKind) -> bool {
        self.tasks.contains(&task)
    }

    /// Hugging Face's class of the model with this head: `BertForSequenceClassification`.
    pub(crate) fn class_name(&self, task: &Task) -> String {
        let suffix = match task.kind() {
            TaskKind::Classification => "ForSequenceClassification",
            TaskKind::MaskedLm => "ForMaskedLM",
            TaskKind::CausalLm if self.model_type == "gpt2" => "LMHeadModel",
            TaskKind::CausalLm => "ForCausalLM",
            TaskKind::Seq2SeqLm => "ForConditionalGeneration",
        };
        format!("{}{suffix}", self.class)
    }

    /// The JSON Schema of the from-scratch table of a recipe.
    pub fn scratch_schema(&self) -> Schema {
        (self.schema)()
    }

    /// The name below which a checkpoint holds embeddings and layers.
    pub(crate) fn base_model_prefix(&self) -> &'static str {
        match self.model_type {
            "xlm-roberta" => "roberta",
            same => same,
        }
    }

    /// Under which key `config.json` has what a from-scratch table calls `key`.
    pub(crate) fn config_key<'a>(&self, key: &'a str) -> &'a str {
        match (self.model_type, key) {
            ("distilbert", "hidden_size") => "dim",
            ("distilbert", "num_hidden_layers") => "n_layers",
            ("distilbert", "num_attention_heads") => "n_heads",
            ("distilbert", "intermediate_size") => "hidden_dim",
            ("distilbert", "hidden_act") => "activation",
            ("distilbert", "hidden_dropout_prob") => "dropout",
            ("distilbert", "attention_probs_dropout_prob") => "attention_dropout",
            ("gpt2", "hidden_size") => "n_embd",
            ("gpt2", "num_hidden_layers") => "n_layer",
            ("gpt2", "num_attention_heads") => "n_head",
            ("gpt2", "intermediate_size") => "n_inner",
            ("gpt2", "hidden_act") => "activation_function",
            ("gpt2", "hidden_dropout_prob") => "resid_pdrop",
            ("gpt2", "attention_probs_dropout_prob") => "attn_pdrop",
            ("gpt2", "max_position_embeddings") => "n_positions",
            ("gpt2", "layer_norm_eps") => "layer_norm_epsilon",
            ("llama" | "qwen2", "attention_probs_dropout_prob") => "attention_dropout",
            ("t5", "hidden_size") => "d_model",
            ("t5", "num_hidden_layers") => "num_layers",
            ("t5", "num_attention_heads") => "num_heads",
            ("t5", "intermediate_size") => "d_ff",
            ("t5", "hidden_dropout_prob") => "dropout_rate",
            ("t5", "layer_norm_eps") => "layer_norm_epsilon",
            _ => key,
        }
    }

    /// The keys of a from-scratch table.
    pub(crate) fn scratch_keys(&self) -> Vec<String> {
        let schema = self.scratch_schema();
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
    }

    /// Checks a from-scratch table and fills in its defaults.
    ///
    /// # Errors
    /// Every [`ConfigError`] of the table.
    pub fn from_scratch(
        &self,
        table: &Value,
        vocab_size: usize,
        pad_token_id: u32,
    ) -> Result<Box<dyn BaseModelConfig>, Vec<ConfigError>> {
        let table = table.as_object().ok_or_else(|| vec![ConfigError::NotAnObject])?;
        (self.scratch)(table, Vocabulary { size: vocab_size, pad_token_id })
    }
}

/// The architecture with this `model_type`.
///
/// # Errors
/// [`ConfigError::UnknownArchitecture`] names the supported ones.
pub fn find(model_type: &str) -> Result<&'static Architecture, ConfigError> {
    ARCHITECTURES.iter().find(|a| a.model_type == model_type).ok_or_else(|| {
        ConfigError::UnknownArchitecture {
            found: model_type.to_owned(),
            suggestion: closest(model_type, ARCHITECTURES.iter().map(|a| a.model_type)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scratch_tables_report_every_fault_at_once() {
        for architecture in ARCHITECTURES {
            let activation = if architecture.model_type == "t5" { "feed_forward_proj" } else { "hidden_act" };
            let mut table = json!({"hiden_size": 8, "num_hidden_layers": "two"});
            table[activation] = json!(3);
            let faults = architecture.from_scratch(&table, 100, 0).unwrap_err();
            let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(faults.len(), 3, "{text:?}");
            assert!(text[0].contains("(did you mean `hidden_size`?)"), "{text:?}");
            let keys = architecture.scratch_keys();
            let dropout = keys.iter().find(|key| key.ends_with("dropout_prob")).unwrap();
            let mut table = match architecture.model_type {
                // Its heads need not add up to the width.
                "t5" => json!({"num_attention_heads": 0, "d_kv": 8}),
                _ => json!({"hidden_size": 30, "num_attention_heads": 4}),
            };
            table[dropout] = json!(1.5);
            let faults = architecture.from_scratch(&table, 100, 0).unwrap_err();
            assert_eq!(faults.len(), 2, "{faults:?}");
        }
    }

    #[test]
    fn scratch_defaults_build_and_survive_config_json() {
        for architecture in ARCHITECTURES {
            let config = architecture.from_scratch(&json!({"num_hidden_layers": 3}), 100, 1).unwrap();
            // Of encoder and decoder together where there are both.
            let layers = if architecture.supports(TaskKind::Seq2SeqLm) { 6 } else { 3 };
            assert_eq!(
                (config.vocab_size(), config.num_hidden_layers(), config.pad_token_id()),
                (100, layers, Some(1))
            );
            let again = (architecture.parse)(&config.to_json()).unwrap();
            assert_eq!(again.to_json(), config.to_json());
            for key in architecture.scratch_keys() {
                assert!(config.to_json().contains_key(architecture.config_key(&key)), "{key}");
            }
            let properties = architecture.scratch_schema().to_value();
            assert!(properties["properties"].get("hidden_size").is_some());
        }
    }
}
