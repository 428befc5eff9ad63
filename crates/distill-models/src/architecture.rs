//! The registry's line of one architecture.

use std::fmt;

use schemars::Schema;
use serde_json::{Map, Value};

use crate::config::closest;
use crate::{ARCHITECTURES, ConfigError, EncoderConfig};

/// An architecture that can be loaded, built from scratch and saved.
pub struct Architecture {
    /// `model_type` in `config.json`, and the name in recipes.
    pub model_type: &'static str,
    /// The start of Hugging Face's class names: `Bert`.
    pub class: &'static str,
    /// Reads the keys of a `config.json`; unknown keys are passed over.
    pub(crate) parse: Parse,
    /// Reads a recipe's table; strict.
    pub(crate) scratch: Scratch,
    /// The JSON Schema of that table.
    pub(crate) schema: fn() -> Schema,
}

type Parse = fn(&Map<String, Value>) -> Result<Box<dyn EncoderConfig>, ConfigError>;
type Scratch = fn(&Map<String, Value>, Vocabulary) -> Result<Box<dyn EncoderConfig>, Vec<ConfigError>>;

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
    ) -> Result<Box<dyn EncoderConfig>, Vec<ConfigError>> {
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
            let faults = architecture
                .from_scratch(&json!({"hiden_size": 8, "num_hidden_layers": "two", "hidden_act": 3}), 100, 0)
                .unwrap_err();
            let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(faults.len(), 3, "{text:?}");
            assert!(text[0].contains("(did you mean `hidden_size`?)"), "{text:?}");
            let faults = architecture
                .from_scratch(
                    &json!({"hidden_size": 30, "num_attention_heads": 4, "hidden_dropout_prob": 1.5}),
                    100,
                    0,
                )
                .unwrap_err();
            assert_eq!(faults.len(), 2, "{faults:?}");
        }
    }

    #[test]
    fn scratch_defaults_build_and_survive_config_json() {
        for architecture in ARCHITECTURES {
            let config = architecture.from_scratch(&json!({"num_hidden_layers": 3}), 100, 1).unwrap();
            assert_eq!(
                (config.vocab_size(), config.num_hidden_layers(), config.pad_token_id()),
                (100, 3, Some(1))
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
