//! The settings of generation, Hugging Face's `generation_config.json`.

use crate::early_stopping::EarlyStopping;
use crate::error::ConfigFileError;
use crate::one_or_many;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

/// New tokens a row where `max_new_tokens` is not given, as in Hugging Face's `generate`.
pub const DEFAULT_MAX_NEW_TOKENS: usize = 20;

/// How prompts are continued. Names and defaults are those of Hugging Face's `GenerationConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Most tokens to append; tokens, at least 1, default 20.
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<usize>,
    /// Fewest tokens to append before `eos_token_id` may end a text; tokens, default 0.
    pub min_new_tokens: usize,
    /// Whether tokens are drawn by chance, else the most probable ones are taken; default `false`.
    pub do_sample: bool,
    /// Logits are divided by this before a draw; above 0, default 1.0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Draw among the most probable tokens, this many; 0 is all, default 50.
    pub top_k: usize,
    /// Draw among the fewest most probable tokens that have this probability together; fraction, 0 to 1, default 1.0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Draw among tokens at least this probable, as a fraction of the most probable one's; 0 to 1, default none.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Above 1 makes tokens that occurred less likely, prompt included, below 1 more; above 0, default 1.0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub repetition_penalty: f64,
    /// No sequence of this many tokens occurs twice, prompt included; tokens, 0 is off, default 0.
    pub no_repeat_ngram_size: usize,
    /// Sequences that a beam search follows at a time; 1 is no beam search, default 1.
    #[schemars(range(min = 1))]
    pub num_beams: usize,
    /// A beam's log-probability is divided by its new tokens to this power; above 0 favours long texts, default 1.0.
    pub length_penalty: f64,
    /// When a beam search ends: `true` with `num_beams` ended sequences, `"never"` before no beam can improve on them, `false` when none is likely to; default `false`.
    pub early_stopping: EarlyStopping,
    /// Continuations of each prompt; at least 1, with beams at most `num_beams`, default 1.
    #[schemars(range(min = 1))]
    pub num_return_sequences: usize,
    /// Token or tokens that end a text; default none.
    #[serde(deserialize_with = "one_or_many::read")]
    #[schemars(schema_with = "one_or_many::schema::<u32>")]
    pub eos_token_id: Vec<u32>,
    /// Text or texts that end a text, which is cut before them; default none.
    #[serde(deserialize_with = "one_or_many::read")]
    #[schemars(schema_with = "one_or_many::schema::<String>")]
    pub stop_strings: Vec<String>,
    /// Where draws begin: the same text for the same seed, whatever else is in the batch; default 0.
    pub seed: u64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            min_new_tokens: 0,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Unlikely,
            num_return_sequences: 1,
            eos_token_id: Vec::new(),
            stop_strings: Vec::new(),
            seed: 0,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key of [`GenerationConfig`].
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// All settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(text, "{between}{}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model's folder; the defaults if there is none.
    ///
    /// Keys that distill does not have are passed over, keys that are `null` keep their default.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON object or has settings that cannot be.
    pub fn from_folder(folder: &Path) -> Result<Self, ConfigFileError> {
        let path = folder.join("generation_config.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigFileError::Read { path, source }),
        };
        let object: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|source| ConfigFileError::Json { path: path.clone(), source })?;
        Self::from_object(object).map_err(|faults| ConfigFileError::Settings { path, faults })
    }

    /// Takes the keys that it has out of an object, each by itself so that every fault is found.
    fn from_object(object: Map<String, Value>) -> Result<Self, ConfigFaults> {
        let mut merged = Self::default().to_object();
        let mut faults = Vec::new();
        for (key, value) in object {
            if value.is_null() || !merged.contains_key(&key) {
                continue;
            }
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            match serde_json::from_value::<Self>(Value::Object(alone)) {
                Ok(_) => {
                    merged.insert(key, value);
                }
                Err(error) => {
                    faults
                        .push(ConfigFault { message: format!("`{key}` cannot be `{value}`: {error}"), key });
                }
            }
        }
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        let config: Self = serde_json::from_value(Value::Object(merged)).map_err(|error| {
            ConfigFaults(vec![ConfigFault { key: String::new(), message: error.to_string() }])
        })?;
        config.check()?;
        Ok(config)
    }

    fn to_object(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            // A struct of numbers, booleans and strings is always an object.
            Ok(_) | Err(_) => Map::new(),
        }
    }

    /// Most tokens to append.
    pub fn max_new_tokens(&self) -> usize {
        self.max_new_tokens.unwrap_or(DEFAULT_MAX_NEW_TOKENS)
    }

    /// Looks for settings that cannot be, and for pairs that contradict each other.
    ///
    /// # Errors
    /// All of them.
    pub fn check(&self) -> Result<(), ConfigFaults> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, wrong: bool, message: String| {
            if wrong {
                faults.push(ConfigFault { key: key.to_owned(), message });
            }
        };
        let at_least_one = |key: &str, found: usize| format!("`{key}` must be at least 1, found `{found}`");
        let above_zero = |key: &str, found: f64| format!("`{key}` must be above 0, found `{found}`");
        let fraction = |key: &str, found: f64| format!("`{key}` must be between 0 and 1, found `{found}`");
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        let is_fraction = |value: f64| (0.0..=1.0).contains(&value);

        let (most, fewest) = (self.max_new_tokens(), self.min_new_tokens);
        fault("max_new_tokens", most == 0, at_least_one("max_new_tokens", most));
        fault(
            "min_new_tokens",
            fewest > most,
            format!("`min_new_tokens` is `{fewest}`, above `max_new_tokens`, which is `{most}`"),
        );
        let temperature = self.temperature;
        let advice =
            if temperature == 0.0 { "; for the most probable tokens write `do_sample = false`" } else { "" };
        fault("temperature", !is_positive(temperature), above_zero("temperature", temperature) + advice);
        fault("top_p", !is_fraction(self.top_p), fraction("top_p", self.top_p));
        if let Some(min_p) = self.min_p {
            fault("min_p", !is_fraction(min_p), fraction("min_p", min_p));
        }
        let penalty = self.repetition_penalty;
        fault("repetition_penalty", !is_positive(penalty), above_zero("repetition_penalty", penalty));
        fault("num_beams", self.num_beams == 0, at_least_one("num_beams", self.num_beams));
        fault(
            "num_beams",
            self.num_beams > 1 && self.do_sample,
            format!(
                "`num_beams` is `{}` and `do_sample` is `true`: beams are searched, not drawn; set `do_sample = \
                 false` or `num_beams = 1`",
                self.num_beams
            ),
        );
        fault(
            "length_penalty",
            !self.length_penalty.is_finite(),
            format!("`length_penalty` must be a finite number, found `{}`", self.length_penalty),
        );
        let sequences = self.num_return_sequences;
        fault("num_return_sequences", sequences == 0, at_least_one("num_return_sequences", sequences));
        fault(
            "num_return_sequences",
            !self.do_sample && sequences > self.num_beams.max(1),
            format!(
                "`num_return_sequences` is `{sequences}` with `num_beams = {}`: without chance there are no more \
                 sequences than beams; set `do_sample = true` or more beams",
                self.num_beams
            ),
        );
        fault(
            "stop_strings",
            self.stop_strings.iter().any(String::is_empty),
            "`stop_strings` has an empty text, which would stop at once".to_owned(),
        );
        if faults.is_empty() { Ok(()) } else { Err(ConfigFaults(faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GenerationConfig, ConfigFileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
        GenerationConfig::from_folder(folder.path())
    }

    #[test]
    fn no_file_is_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let config = GenerationConfig::from_folder(folder.path()).unwrap();
        assert_eq!(config, GenerationConfig::default());
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.max_new_tokens(), 20);
    }

    #[test]
    fn keys_of_hugging_face_are_read_and_others_passed_over() {
        let config = read(
            r#"{"_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2, 3], "do_sample": true,
                "temperature": 0.6, "top_p": 1, "top_k": null, "early_stopping": "never", "stop_strings": "\n\n",
                "max_new_tokens": 64, "transformers_version": "5.0.0", "pad_token_id": null}"#,
        )
        .unwrap();
        let expected = GenerationConfig {
            eos_token_id: vec![2, 3],
            do_sample: true,
            temperature: 0.6,
            early_stopping: EarlyStopping::Never,
            stop_strings: vec!["\n\n".to_owned()],
            max_new_tokens: Some(64),
            ..GenerationConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(read(r#"{"eos_token_id": 2}"#).unwrap().eos_token_id, [2]);
        assert!(read(r#"{"eos_token_id": null}"#).unwrap().eos_token_id.is_empty());
    }

    #[test]
    fn a_config_survives_being_written() {
        let config = GenerationConfig {
            eos_token_id: vec![7],
            stop_strings: vec!["a".to_owned()],
            min_p: Some(0.05),
            early_stopping: EarlyStopping::Full,
            seed: 5,
            ..GenerationConfig::default()
        };
        assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn every_wrong_type_is_named() {
        let ConfigFileError::Settings { faults, .. } =
            read(r#"{"temperature": "hot", "top_k": -1, "eos_token_id": 2, "eta_cutoff": "x"}"#).unwrap_err()
        else {
            panic!("expected faults");
        };
        let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["temperature", "top_k"]);
        assert!(faults.0[0].message.starts_with("`temperature` cannot be `\"hot\"`: "), "{faults}");
    }

    #[test]
    fn files_that_are_no_object_are_refused() {
        assert!(matches!(read("{"), Err(ConfigFileError::Json { .. })));
        assert!(matches!(read("[]"), Err(ConfigFileError::Json { .. })));
        assert!(matches!(read(r#"{"top_p": 2}"#), Err(ConfigFileError::Settings { .. })));
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let config = GenerationConfig {
            max_new_tokens: Some(0),
            min_new_tokens: 3,
            temperature: 0.0,
            top_p: 1.5,
            min_p: Some(-0.5),
            repetition_penalty: f64::NAN,
            num_beams: 0,
            length_penalty: f64::INFINITY,
            num_return_sequences: 2,
            stop_strings: vec![String::new()],
            ..GenerationConfig::default()
        };
        let faults = config.check().unwrap_err();
        let messages: Vec<_> = faults.0.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`max_new_tokens` must be at least 1, found `0`",
                "`min_new_tokens` is `3`, above `max_new_tokens`, which is `0`",
                "`temperature` must be above 0, found `0`; for the most probable tokens write `do_sample = false`",
                "`top_p` must be between 0 and 1, found `1.5`",
                "`min_p` must be between 0 and 1, found `-0.5`",
                "`repetition_penalty` must be above 0, found `NaN`",
                "`num_beams` must be at least 1, found `0`",
                "`length_penalty` must be a finite number, found `inf`",
                "`num_return_sequences` is `2` with `num_beams = 0`: without chance there are no more sequences than \
                 beams; set `do_sample = true` or more beams",
                "`stop_strings` has an empty text, which would stop at once",
            ]
        );
        assert!(
            faults
                .to_string()
                .starts_with("`max_new_tokens` must be at least 1, found `0`; `min_new_tokens`")
        );
    }

    #[test]
    fn beams_are_not_drawn() {
        let config = GenerationConfig { num_beams: 2, do_sample: true, ..GenerationConfig::default() };
        assert_eq!(config.check().unwrap_err().0[0].key, "num_beams");
        let drawn =
            GenerationConfig { do_sample: true, num_return_sequences: 9, ..GenerationConfig::default() };
        assert_eq!(drawn.check(), Ok(()));
    }

    #[test]
    fn the_schema_has_every_key() {
        let schema = schemars::schema_for!(GenerationConfig);
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        let keys = GenerationConfig::default().to_object();
        assert!(keys.keys().eq(properties.keys()), "{properties:?}");
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)));
    }
}
