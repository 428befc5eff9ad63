//! `config.json`: from Hugging Face's keys to a checked configuration and back.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::architecture::{Architecture, TaskKind, find};
use crate::atomic::write_atomically;
use crate::tensor_file::StoredDtype;
use crate::{ARCHITECTURES, BaseModelConfig, ModelError};

/// The configuration's file name.
pub(crate) const CONFIG: &str = "config.json";

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `model_type` is not one of ours.
    #[error("unsupported architecture `{found}`: supported are {}{}", architectures(), hint(.suggestion))]
    UnknownArchitecture {
        /// The `model_type` that was found.
        found: String,
        /// The closest supported one, where one is close.
        suggestion: Option<String>,
    },
    /// The file has no `model_type`.
    #[error("`model_type` is missing: supported are {}", architectures())]
    MissingModelType,
    /// The file is JSON, but no object.
    #[error("expected an object of keys and values")]
    NotAnObject,
    /// A key of a from-scratch table that the architecture does not have.
    #[error("unknown key `{key}`: allowed are {}{}", quoted(.allowed), hint(.suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The closest allowed key, where one is close.
        suggestion: Option<String>,
        /// All allowed keys.
        allowed: Vec<String>,
    },
    /// A value that cannot be used.
    #[error("`{key}` {expected}, found `{found}`")]
    Value {
        /// The key.
        key: String,
        /// The value as it was found.
        found: String,
        /// What it must be: `must be between 0 and 1`.
        expected: String,
    },
}

impl ConfigError {
    /// The key that the error is about, where it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { key, .. } | Self::Value { key, .. } => Some(key),
            Self::UnknownArchitecture { .. } | Self::MissingModelType => Some("model_type"),
            Self::NotAnObject => None,
        }
    }

    pub(crate) fn value(key: &str, found: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), found: found.to_string(), expected: expected.into() }
    }
}

fn architectures() -> String {
    quoted(&ARCHITECTURES.iter().map(|a| a.model_type.to_owned()).collect::<Vec<_>>())
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// The closest of `names` to `found`, if any is close.
pub(crate) fn closest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&found.to_ascii_lowercase(), name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

/// What the head predicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// One of some labels for the whole text.
    Classification {
        /// The labels' names in the order of the logits.
        id2label: Vec<String>,
    },
    /// The hidden tokens of a text.
    MaskedLm,
    /// The next token of a text.
    CausalLm,
    /// A text that answers another.
    Seq2SeqLm,
}

impl Task {
    /// Which kind it is.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Classification { .. } => TaskKind::Classification,
            Self::MaskedLm => TaskKind::MaskedLm,
            Self::CausalLm => TaskKind::CausalLm,
            Self::Seq2SeqLm => TaskKind::Seq2SeqLm,
        }
    }

    /// PEFT's name, where it has one.
    pub(crate) fn peft_name(&self) -> Option<&'static str> {
        match self {
            Self::Classification { .. } => Some("SEQ_CLS"),
            Self::MaskedLm => None,
            Self::CausalLm => Some("CAUSAL_LM"),
            Self::Seq2SeqLm => Some("SEQ_2_SEQ_LM"),
        }
    }
}

/// A configuration as an object of JSON.
pub(crate) fn json_object(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}

/// A model's whole configuration: architecture, sizes, task, and the original's other keys.
#[derive(Debug)]
pub struct ModelConfig {
    /// The line of the registry.
    pub architecture: &'static Architecture,
    /// Sizes and probabilities.
    pub base: Box<dyn BaseModelConfig>,
    /// What the head predicts.
    pub task: Task,
    /// Every key of the `config.json` it came from; those of the base model for a model from scratch.
    pub(crate) keys: Map<String, Value>,
}

impl Clone for ModelConfig {
    fn clone(&self) -> Self {
        Self {
            architecture: self.architecture,
            base: self.base.clone_box(),
            task: self.task.clone(),
            keys: self.keys.clone(),
        }
    }
}

impl ModelConfig {
    /// Reads `config.json`; the task is the one that its `architectures` name, classification if they name neither.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::Json`], or [`ModelError::Config`] with the key at fault.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG);
        let text = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| ModelError::Json { path: path.clone(), reason: error.to_string() })?;
        Self::parse(value).map_err(|source| ModelError::Config { path, source })
    }

    /// The same from JSON that has been read.
    ///
    /// # Errors
    /// [`ConfigError`] with the key at fault.
    pub fn parse(value: Value) -> Result<Self, ConfigError> {
        let Value::Object(keys) = value else { return Err(ConfigError::NotAnObject) };
        let model_type = match keys.get("model_type") {
            Some(Value::String(name)) => name,
            Some(other) => return Err(ConfigError::value("model_type", other, "must be a string")),
            None => return Err(ConfigError::MissingModelType),
        };
        let architecture = find(model_type)?;
        let base = (architecture.parse)(&keys)?;
        let named = [
            ("ForMaskedLM", TaskKind::MaskedLm),
            ("ForSequenceClassification", TaskKind::Classification),
            ("ForCausalLM", TaskKind::CausalLm),
            ("LMHeadModel", TaskKind::CausalLm),
            ("ForConditionalGeneration", TaskKind::Seq2SeqLm),
        ];
        let named = named.into_iter().find(|(suffix, _)| has_class(&keys, suffix)).map(|(_, kind)| kind);
        let default = architecture.tasks.first().copied().unwrap_or(TaskKind::Classification);
        let task = match named.unwrap_or(default) {
            TaskKind::Classification => Task::Classification { id2label: id2label(&keys)? },
            TaskKind::MaskedLm => Task::MaskedLm,
            TaskKind::CausalLm => Task::CausalLm,
            TaskKind::Seq2SeqLm => Task::Seq2SeqLm,
        };
        Ok(Self { architecture, base, task, keys })
    }

    /// Whether the checkpoint says that it is a classifier; else [`ModelConfig::task`] is what it would be as one.
    pub fn has_classifier(&self) -> bool {
        has_class(&self.keys, "ForSequenceClassification")
    }

    /// Says which tokens begin and end a text, where the configuration of a new model does not know it.
    pub fn set_ends(&mut self, bos_token_id: Option<u32>, eos_token_id: Option<u32>) {
        for (key, id) in [("bos_token_id", bos_token_id), ("eos_token_id", eos_token_id)] {
            if let Some(id) = id {
                self.keys.insert(key.to_owned(), json!(id));
            }
        }
    }

    /// Token numbers of a key that has one or several: `eos_token_id`.
    pub fn token_ids(&self, key: &str) -> Vec<u32> {
        let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.keys.get(key) {
            Some(Value::Array(ids)) => ids.iter().filter_map(number).collect(),
            Some(id) => number(id).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The `config.json` of a saved model: the original's keys, with class, labels and data type as they are now.
    pub fn to_json(&self) -> Value {
        let mut keys = self.keys.clone();
        // `_name_or_path` is where the original lay on somebody's disk; `problem_type` described the original's task;
        // `torch_dtype` is the old name of `dtype`.
        for stale in ["_name_or_path", "problem_type", "torch_dtype", "num_labels"] {
            keys.shift_remove(stale);
        }
        keys.insert("architectures".to_owned(), json!([self.architecture.class_name(&self.task)]));
        keys.insert("model_type".to_owned(), json!(self.architecture.model_type));
        keys.insert("dtype".to_owned(), json!("float32"));
        if let Task::Classification { id2label } = &self.task {
            let by_id: Map<String, Value> =
                id2label.iter().enumerate().map(|(id, label)| (id.to_string(), json!(label))).collect();
            let by_label: Map<String, Value> =
                id2label.iter().enumerate().map(|(id, label)| (label.clone(), json!(id))).collect();
            keys.insert("id2label".to_owned(), Value::Object(by_id));
            keys.insert("label2id".to_owned(), Value::Object(by_label));
        }
        let mut sorted: Vec<_> = keys.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Object(sorted.into_iter().collect())
    }

    /// Writes `config.json` into a folder.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), ModelError> {
        self.write_for(folder, StoredDtype::F32)
    }

    /// The same for weights that are stored as `dtype`.
    pub(crate) fn write_for(&self, folder: &Path, dtype: StoredDtype) -> Result<(), ModelError> {
        let mut keys = self.to_json();
        keys["dtype"] = json!(dtype.torch_name());
        let text = format!("{keys:#}\n");
        write_atomically(&folder.join(CONFIG), |file| file.write_all(text.as_bytes()))
    }
}

/// The labels in the order of their ids; Hugging Face's default of two unnamed ones where the file has none.
/// Whether `architectures` names a class that ends so.
fn has_class(keys: &Map<String, Value>, suffix: &str) -> bool {
    let names = keys.get("architectures").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).any(|name| name.ends_with(suffix))
}

fn id2label(keys: &Map<String, Value>) -> Result<Vec<String>, ConfigError> {
    let unnamed = |count: u64| (0..count).map(|id| format!("LABEL_{id}")).collect();
    let table = match keys.get("id2label") {
        Some(Value::Object(table)) => table,
        Some(Value::Null) | None => {
            return Ok(unnamed(keys.get("num_labels").and_then(Value::as_u64).unwrap_or(2)));
        }
        Some(other) => return Err(ConfigError::value("id2label", other, "must map ids to labels")),
    };
    (0..table.len())
        .map(|id| match table.get(&id.to_string()) {
            Some(Value::String(label)) => Ok(label.clone()),
            Some(other) => Ok(other.to_string()),
            None => {
                let expected = format!("must have the ids 0 to {}, {id} is missing", table.len() - 1);
                Err(ConfigError::value("id2label", Value::Object(table.clone()), expected))
            }
        })
        .collect()
}

/// Fills a struct whose fields all have defaults; keys that it does not know are passed over.
pub(crate) fn read_keys<T: DeserializeOwned>(table: &Map<String, Value>) -> Result<T, ConfigError> {
    serde_json::from_value(Value::Object(table.clone())).map_err(|error| {
        faults_by_key::<T>(table)
            .into_iter()
            .next()
            .unwrap_or_else(|| ConfigError::value("config.json", "", error.to_string()))
    })
}

/// The same for a from-scratch table: strict, with every fault.
pub(crate) fn read_scratch<T: DeserializeOwned + schemars::JsonSchema>(
    table: &Map<String, Value>,
) -> Result<T, Vec<ConfigError>> {
    let schema = schemars::schema_for!(T);
    let allowed: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default();
    let (known, unknown): (Map<_, _>, Map<_, _>) =
        table.clone().into_iter().partition(|(key, _)| allowed.contains(key));
    let mut faults: Vec<_> = unknown
        .into_iter()
        .map(|(key, _)| ConfigError::UnknownKey {
            suggestion: closest(&key, allowed.iter().map(String::as_str)),
            key,
            allowed: allowed.clone(),
        })
        .collect();
    faults.extend(faults_by_key::<T>(&known));
    if !faults.is_empty() {
        return Err(faults);
    }
    read_keys(&known).map_err(|fault| vec![fault])
}

/// serde names no key: trying each alone does.
fn faults_by_key<T: DeserializeOwned>(table: &Map<String, Value>) -> Vec<ConfigError> {
    table
        .iter()
        .filter_map(|(key, value)| {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            let error = serde_json::from_value::<T>(Value::Object(alone)).err()?.to_string();
            // `invalid type: string "x", expected usize` keeps its last part.
            let expected = error.rsplit_once("expected ").map_or(error.as_str(), |(_, expected)| expected);
            let expected = expected.replace("usize", "a whole number").replace("u32", "a whole number");
            let expected = expected.replace("f64", "a number");
            Some(ConfigError::value(key, value, format!("must be {expected}")))
        })
        .collect()
}

/// No network comes near this size; a damaged file does, and would ask for all memory.
const LARGEST_SIZE: usize = 1 << 24;

/// Collects the faults of a configuration's values.
#[derive(Default)]
pub(crate) struct Checks(Vec<ConfigError>);

impl Checks {
    pub(crate) fn positive(&mut self, key: &str, value: usize) {
        if value == 0 {
            self.0.push(ConfigError::value(key, value, "must be at least 1"));
        }
        if value > LARGEST_SIZE {
            self.0.push(ConfigError::value(key, value, format!("must be at most {LARGEST_SIZE}")));
        }
    }

    pub(crate) fn probability(&mut self, key: &str, value: f64) {
        if !(0.0..1.0).contains(&value) {
            self.0.push(ConfigError::value(key, value, "must be at least 0 and below 1"));
        }
    }

    pub(crate) fn above_zero(&mut self, key: &str, value: f64) {
        if !(value > 0.0 && value.is_finite()) {
            self.0.push(ConfigError::value(key, value, "must be above 0"));
        }
    }

    pub(crate) fn heads(&mut self, size_key: &str, size: usize, heads_key: &str, heads: usize) {
        self.positive(size_key, size);
        self.positive(heads_key, heads);
        if heads != 0 && !size.is_multiple_of(heads) {
            let expected = format!("must be a multiple of `{heads_key}` ({heads})");
            self.0.push(ConfigError::value(size_key, size, expected));
        }
    }

    pub(crate) fn activation(&mut self, key: &str, name: &str) {
        if let Err(unknown) = name.parse::<distill_ops::Activation>() {
            let names = distill_ops::Activation::names().map(|name| format!("`{name}`")).join(", ");
            let hint = hint(&unknown.suggestion.map(str::to_owned));
            self.0.push(ConfigError::value(key, name, format!("must be one of {names}{hint}")));
        }
    }

    pub(crate) fn pad(&mut self, pad_token_id: Option<u32>, vocab_size: usize) {
        if let Some(pad) = pad_token_id.filter(|&pad| pad as usize >= vocab_size) {
            self.0.push(ConfigError::value(
                "pad_token_id",
                pad,
                format!("must be below `vocab_size` ({vocab_size})"),
            ));
        }
    }

    /// Whether there is no fault so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fail(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// All faults, or none.
    pub(crate) fn finish(self) -> Result<(), Vec<ConfigError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    /// The first fault, or none.
    pub(crate) fn finish_first(self) -> Result<(), ConfigError> {
        self.0.into_iter().next().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_architectures_name_the_supported_ones() {
        let message = ModelConfig::parse(json!({"model_type": "mamba"})).unwrap_err().to_string();
        assert_eq!(
            message,
            "unsupported architecture `mamba`: supported are `bert`, `distilbert`, `roberta`, `xlm-roberta`, `albert`, \
             `llama`, `qwen2`, `gpt2`, `t5`"
        );
        let message = ModelConfig::parse(json!({"model_type": "distillbert"})).unwrap_err().to_string();
        assert!(message.ends_with("(did you mean `distilbert`?)"), "{message}");
        assert_eq!(ModelConfig::parse(json!({})).unwrap_err(), ConfigError::MissingModelType);
        assert_eq!(ModelConfig::parse(json!([])).unwrap_err(), ConfigError::NotAnObject);
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_its_key() {
        let error = ModelConfig::parse(json!({"model_type": "bert", "hidden_size": "wide"})).unwrap_err();
        assert_eq!(error.to_string(), "`hidden_size` must be a whole number, found `\"wide\"`");
        let error = ModelConfig::parse(json!({"model_type": "bert", "hidden_size": 30})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`hidden_size` must be a multiple of `num_attention_heads` (12), found `30`"
        );
        let error = ModelConfig::parse(json!({"model_type": "albert", "hidden_act": "gleu"})).unwrap_err();
        assert!(error.to_string().contains("did you mean `gelu`?"), "{error}");
    }

    #[test]
    fn labels_are_ordered_by_number_and_gaps_are_found() {
        let labels = |value: Value| match value {
            Value::Object(keys) => id2label(&keys),
            _ => unreachable!(),
        };
        let many: Map<String, Value> =
            (0..12).rev().map(|id| (id.to_string(), json!(format!("l{id}")))).collect();
        assert_eq!(labels(json!({"id2label": many})).unwrap()[10], "l10");
        assert_eq!(labels(json!({})).unwrap(), ["LABEL_0", "LABEL_1"]);
        assert_eq!(labels(json!({"num_labels": 3})).unwrap().len(), 3);
        assert!(labels(json!({"id2label": {"0": "a", "2": "b"}})).is_err());
    }

    #[test]
    fn saved_configurations_keep_foreign_keys_and_drop_stale_ones() {
        let mut config = ModelConfig::parse(json!({
            "model_type": "bert", "vocab_size": 50, "my_key": [1], "torch_dtype": "float16", "_name_or_path": "/x",
            "problem_type": "regression"
        }))
        .unwrap();
        config.task = Task::Classification { id2label: vec!["no".to_owned(), "yes".to_owned()] };
        let json = config.to_json();
        assert_eq!(json["architectures"], json!(["BertForSequenceClassification"]));
        assert_eq!(json["id2label"], json!({"0": "no", "1": "yes"}));
        assert_eq!(json["label2id"], json!({"no": 0, "yes": 1}));
        assert_eq!((&json["dtype"], &json["my_key"]), (&json!("float32"), &json!([1])));
        assert!(["torch_dtype", "_name_or_path", "problem_type"].iter().all(|key| json.get(key).is_none()));
        let again = ModelConfig::parse(json.clone()).unwrap();
        assert_eq!((again.task.clone(), again.to_json()), (config.task, json));
    }
}
