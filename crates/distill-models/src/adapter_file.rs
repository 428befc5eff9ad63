//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::atomic::write_atomically;
use crate::checkpoint::ADAPTER_WEIGHTS as WEIGHTS;
use crate::lora::{LoraConfig, TargetModules};
use crate::model::Model;
use crate::tensor_file::{TensorFile, write_safetensors};
use crate::weights::Fault;
use crate::{ModelError, Task, TensorFault};

/// The configuration's file name.
const CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the names of the model's parameters.
const PREFIX: &str = "base_model.model.";

/// Whether a folder holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG).is_file()
}

/// What an adapter's folder says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// What is adapted, and how.
    pub lora: LoraConfig,
    /// The model it belongs to: a folder or a hub id.
    pub base_model_name_or_path: Option<String>,
}

/// The keys that decide about the network.
#[derive(Deserialize)]
struct Keys {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    #[serde(default = "default_r")]
    r: usize,
    #[serde(default = "default_alpha")]
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Option<Names>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

fn default_r() -> usize {
    8
}

fn default_alpha() -> f64 {
    8.0
}

/// Keys of adapters that are not supported, with the value at which they do nothing.
const INERT: [(&str, Value); 15] = [
    ("bias", Value::Null),
    ("use_dora", Value::Bool(false)),
    ("rank_pattern", Value::Null),
    ("alpha_pattern", Value::Null),
    ("layers_to_transform", Value::Null),
    ("layer_replication", Value::Null),
    ("target_parameters", Value::Null),
    ("exclude_modules", Value::Null),
    ("trainable_token_indices", Value::Null),
    ("lora_bias", Value::Bool(false)),
    // Adapters that only some tokens pass through, and others that are no sum of `W x` and `B A x`.
    ("alora_invocation_tokens", Value::Null),
    ("arrow_config", Value::Null),
    ("kasa_config", Value::Null),
    ("use_bdlora", Value::Bool(false)),
    ("use_qalora", Value::Bool(false)),
];

/// Beginnings of `init_lora_weights` with which PEFT changes the model's own weights, so that the adapter alone is not enough.
const CHANGES_THE_MODEL: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

impl AdapterConfig {
    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::Json`], or [`ModelError::Adapter`] for an adapter of another kind.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG);
        let text = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
        let json =
            |error: serde_json::Error| ModelError::Json { path: path.clone(), reason: error.to_string() };
        let value: Value = serde_json::from_slice(&text).map_err(json)?;
        let fault = |reason: String| ModelError::Adapter { path: path.clone(), reason };
        for (key, inert) in INERT {
            let found = value.get(key).unwrap_or(&Value::Null);
            let empty = match found {
                Value::Null => true,
                Value::String(word) => word == "none",
                Value::Object(table) => table.is_empty(),
                Value::Array(list) => list.is_empty(),
                other => *other == inert,
            };
            if !empty {
                return Err(fault(format!("`{key}` = `{found}` is not supported")));
            }
        }
        let start = value.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default().to_owned();
        if CHANGES_THE_MODEL.iter().any(|kind| start.starts_with(kind)) {
            return Err(fault(format!(
                "`init_lora_weights` = `{start}` changes the model's own weights; save the adapter by PEFT's \
                 `save_pretrained` with `path_initial_model_for_weight_conversion`"
            )));
        }
        let keys: Keys = serde_json::from_value(value).map_err(json)?;
        if keys.peft_type != "LORA" {
            return Err(fault(format!("`peft_type` must be `LORA`, found `{}`", keys.peft_type)));
        }
        if keys.r == 0 {
            return Err(fault("`r` must be at least 1, found `0`".to_owned()));
        }
        let target_modules = match keys.target_modules {
            Some(Names::One(name)) if name == "all-linear" => TargetModules::AllLinear,
            Some(Names::One(pattern)) => TargetModules::Pattern(pattern),
            Some(Names::Many(names)) => TargetModules::Names(names),
            None => return Err(fault("`target_modules` is missing".to_owned())),
        };
        let lora = LoraConfig {
            r: keys.r,
            lora_alpha: keys.lora_alpha,
            lora_dropout: keys.lora_dropout,
            target_modules,
            use_rslora: keys.use_rslora,
            modules_to_save: keys.modules_to_save.unwrap_or_default(),
        };
        Ok(Self { lora, base_model_name_or_path: keys.base_model_name_or_path })
    }

    /// Writes both files, as `PeftModel.save_pretrained` lays them out; each appears whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub fn save(&self, model: &dyn Model, task: &Task, folder: &Path) -> Result<(), ModelError> {
        std::fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
        let text = format!("{:#}\n", self.to_json(task, &adapted(model)));
        write_atomically(&folder.join(CONFIG), |file| file.write_all(text.as_bytes()))?;
        let mut tensors = Vec::new();
        model.visit(&mut |info, value| {
            if self.lora.holds(&info.name) {
                let values = value.into_data().iter::<f32>().collect();
                tensors.push((format!("{PREFIX}{}", info.name), info.shape.clone(), values));
            }
        });
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(&folder.join(WEIGHTS), tensors, &metadata)
    }

    fn to_json(&self, task: &Task, adapted: &BTreeSet<String>) -> Value {
        let lora = &self.lora;
        let target_modules = match &lora.target_modules {
            // As PEFT does: the names that it comes to, so that a reader need not know what counts as linear.
            TargetModules::AllLinear => json!(adapted),
            TargetModules::Names(names) => json!(names),
            TargetModules::Pattern(pattern) => json!(pattern),
        };
        let modules_to_save = (!lora.modules_to_save.is_empty()).then_some(&lora.modules_to_save);
        let conv1d = adapted.iter().any(|name| name.starts_with("c_") || name.contains(".c_"));
        json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": conv1d,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": whole(lora.lora_alpha),
            "lora_dropout": lora.lora_dropout,
            "modules_to_save": modules_to_save,
            "peft_type": "LORA",
            "r": lora.r,
            "rank_pattern": {},
            "revision": null,
            "target_modules": target_modules,
            "task_type": task.peft_name(),
            "use_dora": false,
            "use_rslora": lora.use_rslora,
        })
    }
}

/// Whole numbers without a point, as PEFT writes them.
fn whole(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// The last words of the adapted layers' names; where one of them also names a layer without an adapter, whole names.
fn adapted(model: &dyn Model) -> BTreeSet<String> {
    let names: Vec<String> = model.parameters().into_iter().map(|info| info.name).collect();
    let layers: BTreeSet<&str> =
        names.iter().filter_map(|name| name.strip_suffix(".lora_A.weight")).collect();
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let short: BTreeSet<String> = layers.iter().map(|name| last(name)).collect();
    let bare = names
        .iter()
        .filter_map(|name| name.strip_suffix(".weight"))
        .filter(|name| !name.ends_with(".lora_A") && !name.ends_with(".lora_B") && !layers.contains(name));
    let ambiguous: BTreeSet<String> = bare.map(last).filter(|name| short.contains(name)).collect();
    let name = |layer: &str| if ambiguous.contains(&last(layer)) { layer.to_owned() } else { last(layer) };
    layers.iter().map(|layer| name(layer)).collect()
}

/// An adapter's weights, still on disk.
#[derive(Debug)]
pub(crate) struct AdapterFile {
    folder: PathBuf,
    file: TensorFile,
}

impl AdapterFile {
    /// Opens `adapter_model.safetensors`.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(WEIGHTS);
        if !path.is_file() && folder.join("adapter_model.bin").is_file() {
            let reason =
                "`adapter_model.bin` is pickled and not read; save the adapter as safetensors".to_owned();
            return Err(ModelError::Adapter { path: folder.join("adapter_model.bin"), reason });
        }
        Ok(Self { folder: folder.to_owned(), file: TensorFile::open(&path)? })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The numbers of the model's parameter `name` and the name in the file, if it is there.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Option<(String, Vec<f32>)>, Fault> {
        let stored = format!("{PREFIX}{name}");
        let Some(info) = self.file.info(&stored) else { return Ok(None) };
        let file = self.file.path().to_owned();
        if info.shape != shape {
            let (expected, found) = (shape.to_vec(), info.shape.clone());
            return Err(Fault::Tensor(TensorFault::Shape { name: stored, file, expected, found }));
        }
        let values = self.file.read_f32(info).map_err(Fault::File)?.ok_or_else(|| {
            let found = format!("{:?}", info.dtype);
            Fault::Tensor(TensorFault::Dtype { name: stored.clone(), file, found })
        })?;
        Ok(Some((stored, values)))
    }

    /// Refuses an adapter with tensors that the model has no place for.
    pub(crate) fn check_used(&self, used: &BTreeSet<String>) -> Result<(), ModelError> {
        let unused: Vec<String> = self
            .file
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !used.contains(name))
            .collect();
        match unused.first() {
            None => Ok(()),
            Some(first) => {
                let reason =
                    format!("{} tensors have no place in the model, the first is `{first}`", unused.len());
                Err(ModelError::Adapter { path: self.file.path().to_owned(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: Value) -> Result<AdapterConfig, ModelError> {
        let mut config = json!({ "peft_type": "LORA", "target_modules": ["q_proj"] });
        for (key, value) in keys.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(CONFIG), config.to_string()).expect("writes");
        AdapterConfig::read(folder.path())
    }

    #[test]
    fn adapters_that_would_compute_something_else_are_refused() {
        let inert = json!({ "use_dora": false, "rank_pattern": {}, "bias": "none", "alora_invocation_tokens": null,
            "lora_bias": false, "init_lora_weights": true, "loftq_config": {}, "qalora_group_size": 16 });
        assert_eq!(read(inert).expect("an adapter").lora.r, 8);
        assert!(read(json!({ "init_lora_weights": "gaussian" })).is_ok());
        for (key, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("lora_only")),
            ("rank_pattern", json!({ "q_proj": 2 })),
            ("lora_bias", json!(true)),
            ("alora_invocation_tokens", json!([5])),
            ("trainable_token_indices", json!([5])),
            ("init_lora_weights", json!("pissa_niter_16")),
        ] {
            let error = read(json!({ key: value })).expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}` = ")), "{error}");
        }
    }
}
