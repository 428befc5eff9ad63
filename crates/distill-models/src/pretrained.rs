//! Models in and out of Hugging Face folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::adapter_file::{AdapterConfig, AdapterFile};
use crate::checkpoint::Checkpoint;
use crate::lora::{LoraConfig, is_factor};
use crate::model::Model;
use crate::weights::{HeadPolicy, LoadReport, Weights};
use crate::weights_file::{WeightsFormat, write_weights};
use crate::{Architecture, ConfigError, ModelConfig, ModelError, Task, TaskKind};

/// What a checkpoint is to become.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The head, which need not be the checkpoint's.
    pub task: Task,
    /// What to do where the checkpoint has no such head, or one with another number of labels.
    pub head: HeadPolicy,
    /// Seed of new tensors.
    pub seed: u64,
    /// Where the parameters go; with autodiff for training.
    pub device: Device,
    /// Replaces every dropout probability of the configuration, for this run: a saved model keeps its own.
    pub dropout: Option<f64>,
    /// Low-rank adapters to put in; everything but them and their `modules_to_save` is frozen.
    pub adapter: Option<Adapter>,
}

/// The adapters that a model gets.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// New ones, which change nothing yet.
    New(LoraConfig),
    /// Those of a folder in PEFT's layout.
    Saved(PathBuf),
}

/// A model with all that is needed to save it again.
pub struct Loaded {
    /// The network.
    pub model: Box<dyn Model>,
    /// Its configuration.
    pub config: ModelConfig,
    /// Which tensors are new and which were not used.
    pub report: LoadReport,
    /// The adapters that it has.
    pub lora: Option<LoraConfig>,
}

/// Loads a Hugging Face folder: `config.json` and `model.safetensors`, in one file or in shards, in f32, f16, bf16 or
/// f64; the parameters are f32.
///
/// # Errors
/// Every [`ModelError`]; tensors that are missing or of another shape are all listed.
pub fn load(folder: &Path, request: LoadRequest) -> Result<Loaded, ModelError> {
    let mut config = ModelConfig::read(folder)?;
    if !config.architecture.supports(request.task.kind()) {
        return Err(unsupported(config.architecture, &request.task));
    }
    config.task = request.task;
    let mut base = config.base.clone_box();
    if let Some(p) = request.dropout {
        base.set_dropout(p);
    }
    let checkpoint = Checkpoint::open(folder)?;
    let std = base.initializer_range();
    let (lora, file) = match request.adapter {
        None => (None, None),
        Some(Adapter::New(lora)) => (Some(lora), None),
        Some(Adapter::Saved(folder)) => {
            (Some(AdapterConfig::read(&folder)?.lora), Some(AdapterFile::open(&folder)?))
        }
    };
    let weights = Weights::from_checkpoint(checkpoint, request.head, request.seed, std, &request.device)
        .with_lora(lora.clone(), file);
    let mut model = base.build(&config.task, &weights);
    let report = weights.finish()?;
    let lora = lora.map(|lora| with_heads(lora, &config.task, &report.newly_initialised));
    if let Some(lora) = &lora {
        check_tied(lora, &config.task, model.as_ref(), folder)?;
        model.set_trainable(&|name| lora.holds(name));
    }
    Ok(Loaded { model, config, report, lora })
}

/// The head of a classifier, new or not, and other new layers learn as a whole and are saved with the adapters.
///
/// PEFT reads a `classifier` from every adapter of a classifier (`task_type` is `SEQ_CLS`), and fails where it has none,
/// or parts of it by name.
fn with_heads(mut lora: LoraConfig, task: &Task, newly_initialised: &[String]) -> LoraConfig {
    if task.kind() == TaskKind::Classification {
        lora.modules_to_save.retain(|name| name != CLASSIFIER && !name.starts_with("classifier."));
        lora.modules_to_save.push(CLASSIFIER.to_owned());
    }
    for name in newly_initialised.iter().filter(|name| !is_factor(name)) {
        let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
        if !lora.holds(name) {
            lora.modules_to_save.push(module.to_owned());
        }
    }
    lora
}

/// Refuses embeddings that are saved with adapters where the output layer is the same table: PEFT unties the two, and
/// what one of them learnt would be read as both.
fn check_tied(lora: &LoraConfig, task: &Task, model: &dyn Model, folder: &Path) -> Result<(), ModelError> {
    const EMBEDDINGS: [&str; 5] = ["embed_tokens", "wte", "shared", "word_embeddings", "lm_head"];
    let writes = matches!(task.kind(), TaskKind::CausalLm | TaskKind::Seq2SeqLm);
    let untied = model.parameters().iter().any(|parameter| parameter.name.starts_with("lm_head."));
    let named = lora.modules_to_save.iter().find(|name| EMBEDDINGS.iter().any(|end| name.ends_with(end)));
    match named.filter(|_| writes && !untied) {
        None => Ok(()),
        Some(name) => Err(ModelError::Adapter {
            path: folder.to_owned(),
            reason: format!(
                "`modules_to_save` names `{name}`, and the embeddings of this model are its output layer too; leave it \
                 out, or train without `[lora]`"
            ),
        }),
    }
}

/// The head of every classifier, in checkpoints.
const CLASSIFIER: &str = "classifier";

/// Why an architecture cannot be used for a task.
fn unsupported(architecture: &Architecture, task: &Task) -> ModelError {
    let help = match architecture.tasks.first() {
        Some(TaskKind::CausalLm) => {
            "it continues texts; take an encoder such as `bert` for labels and hidden tokens"
        }
        Some(TaskKind::Seq2SeqLm) => "it answers texts with texts: `kind = \"seq2seq\"`",
        _ => "it is an encoder; take `llama`, `qwen2`, `gpt2` or `t5` to write texts",
    };
    ModelError::UnsupportedTask { model_type: architecture.model_type, task: task.kind().name(), help }
}

/// Builds a model with new weights; `table` is the recipe's, checked by [`Architecture::from_scratch`].
///
/// The weights are a pure function of `seed` and each parameter's name, the same on every device.
///
/// # Errors
/// Every [`ConfigError`] of the table.
pub fn from_scratch(
    architecture: &'static Architecture,
    table: &Value,
    vocab_size: usize,
    pad_token_id: u32,
    request: LoadRequest,
) -> Result<Loaded, Vec<ConfigError>> {
    let base = architecture.from_scratch(table, vocab_size, pad_token_id)?;
    let task = request.task;
    if !architecture.supports(task.kind()) {
        let expected = format!("cannot be used for {}", task.kind().name());
        return Err(vec![ConfigError::value("architecture", architecture.model_type, expected)]);
    }
    let weights = Weights::from_seed(request.seed, base.initializer_range(), &request.device);
    let mut built = base.clone_box();
    if let Some(p) = request.dropout {
        built.set_dropout(p);
    }
    let model = built.build(&task, &weights);
    let mut keys = base.to_json();
    keys.insert("model_type".to_owned(), json!(architecture.model_type));
    let config = ModelConfig { architecture, base, task, keys };
    Ok(Loaded { model, config, report: LoadReport::default(), lora: None })
}

/// Writes `config.json` and `model.safetensors` as Transformers' `save_pretrained` lays them out.
///
/// The folder is made if need be. Each file appears whole or not at all, and the same model gives the same bytes.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save(model: &dyn Model, config: &ModelConfig, folder: &Path) -> Result<(), ModelError> {
    save_without(model, config, folder, &|_| false)
}

/// [`save`] without the parameters whose names `skip` picks.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save_without(
    model: &dyn Model,
    config: &ModelConfig,
    folder: &Path,
    skip: &dyn Fn(&str) -> bool,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
    config.write(folder)?;
    write_weights(folder, to_host(model, skip), WeightsFormat::default())
}

/// Writes the model with its adapters made part of the weights that they belong to: `W + scaling · B A`.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save_merged(
    loaded: &Loaded,
    config: &ModelConfig,
    folder: &Path,
    format: WeightsFormat,
) -> Result<(), ModelError> {
    let scaling = loaded.lora.as_ref().map_or(0.0, LoraConfig::scaling);
    let mut tensors = parameters_to_host(loaded.model.as_ref());
    let mut factors = BTreeMap::new();
    tensors.retain_mut(|(name, shape, values)| match is_factor(name) {
        true => {
            factors.insert(name.clone(), (std::mem::take(shape), std::mem::take(values)));
            false
        }
        false => true,
    });
    for (name, shape, values) in &mut tensors {
        let Some(layer) = name.strip_suffix(".weight") else { continue };
        let factor = |which: &str| factors.get(&format!("{layer}.{which}.weight"));
        let (Some((a_shape, a)), Some((_, b))) = (factor("lora_A"), factor("lora_B")) else { continue };
        let (r, inputs) = (a_shape[0], a_shape[1]);
        // A weight that is stored the other way has its inputs in front; a square one does so by its architecture.
        let in_out = shape[1] != inputs || (shape[0] == inputs && config.architecture.model_type == "gpt2");
        let outputs = b.len() / r.max(1);
        for output in 0..outputs {
            for input in 0..inputs {
                let sum: f64 =
                    (0..r).map(|k| f64::from(b[output * r + k]) * f64::from(a[k * inputs + input])).sum();
                let place = if in_out { input * outputs + output } else { output * inputs + input };
                values[place] = (f64::from(values[place]) + scaling * sum) as f32;
            }
        }
    }
    std::fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
    config.write_for(folder, format.dtype)?;
    write_weights(folder, tensors, format)
}

/// Every parameter's name, shape and numbers, in parameter order.
pub fn parameters_to_host(model: &dyn Model) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    to_host(model, &|_| false)
}

fn to_host(model: &dyn Model, skip: &dyn Fn(&str) -> bool) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut tensors = Vec::new();
    model.visit(&mut |info, value| {
        if skip(&info.name) {
            return;
        }
        let values = value.into_data().iter::<f32>().collect();
        tensors.push((info.name.clone(), info.shape.clone(), values));
    });
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TargetModules;

    #[test]
    fn the_whole_head_of_a_classifier_is_saved() {
        let lora = |modules_to_save: &[&str]| LoraConfig {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            use_rslora: false,
            modules_to_save: modules_to_save.iter().map(|name| (*name).to_owned()).collect(),
        };
        let classification = Task::Classification { id2label: vec!["a".to_owned(), "b".to_owned()] };
        let new = ["classifier.dense.weight", "roberta.pooler.dense.bias"].map(str::to_owned);
        let saved =
            |lora: LoraConfig, task: &Task, new: &[String]| with_heads(lora, task, new).modules_to_save;
        assert_eq!(saved(lora(&[]), &classification, &[]), ["classifier"]);
        let found = saved(lora(&["classifier.dense", "score"]), &classification, &new);
        assert_eq!(found, ["score", "classifier", "roberta.pooler.dense"]);
        assert_eq!(saved(lora(&["lm_head"]), &Task::CausalLm, &[]), ["lm_head"]);
    }
}
