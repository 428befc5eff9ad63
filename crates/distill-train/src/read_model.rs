//! The model that a recipe names: its configuration alone, and with its weights.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::read_data::download_event;
use burn::tensor::Device;
use distill_data::hub::{self, Download, ModelReference};
use distill_data::tokenizer::Tokenizer;
use distill_models::{
    Adapter, BaseModelConfig, ConfigError, HeadPolicy, LayerChoice, LoadRequest, Loaded, LoraConfig,
    ModelConfig, StudentError, StudentReport, StudentRequest, TargetModules, Task as ModelTask, find,
    from_scratch, is_adapter, load, student_config, student_from_teacher,
};
use distill_recipe::{Component, Faults, FromTeacher, ModelTable, Recipe, Spread, StudentLayers};
use std::path::{Path, PathBuf};

/// The folder of a model that is named by its path or by its hub id; downloads it in the latter case.
///
/// # Errors
/// [`TrainError::Hub`].
pub fn model_folder(reference: &str, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
    match hub::parse_model_reference(reference)? {
        ModelReference::Folder(folder) => Ok(folder),
        ModelReference::Hub { id, revision } => {
            observer.event(&Event::Stage { message: format!("looking for `{id}` on the hub") });
            let mut progress = |download: Download<'_>| download_event(download, observer);
            Ok(hub::model_files(&id, revision.as_deref(), &mut progress)?)
        }
    }
}

pub(crate) fn read_model(
    recipe: &Recipe,
    folder: Option<&Path>,
    tokenizer: &Tokenizer,
    task: ModelTask,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<(Loaded, Option<StudentReport>), TrainError> {
    let (seed, device, dropout) = (recipe.seed, device.clone().autodiff(), recipe.train.dropout);
    match (&recipe.model, folder) {
        (ModelTable::Scratch(component), _) => {
            observer.event(&Event::Stage { message: format!("making a new {} model", component.name) });
            let architecture =
                find(&component.name).map_err(|error| scratch_faults(recipe, component, vec![error]))?;
            let (table, pad) = (scratch_table(component), tokenizer.pad_token_id().unwrap_or(0));
            let request =
                LoadRequest { task, seed, device, dropout, head: HeadPolicy::Reinitialise, adapter: None };
            let mut loaded = from_scratch(architecture, &table, tokenizer.vocab_size(), pad, request)
                .map_err(|errors| scratch_faults(recipe, component, errors))?;
            if matches!(loaded.config.task, ModelTask::CausalLm | ModelTask::Seq2SeqLm) {
                loaded.config.set_ends(tokenizer.bos_token_id(), tokenizer.eos_token_id());
            }
            Ok((loaded, None))
        }
        (ModelTable::FromTeacher(student), folder) => {
            observer.event(&Event::Stage { message: "making the student of its teacher".to_owned() });
            let request = student_request(student, task, seed, device, dropout);
            let (loaded, report) = student_from_teacher(folder.unwrap_or(Path::new("")), request)
                .map_err(|error| student_error(recipe, student, error))?;
            Ok((loaded, Some(report)))
        }
        (ModelTable::Pretrained { path }, folder) => {
            observer.event(&Event::Stage { message: format!("loading `{path}`") });
            let folder = folder.unwrap_or(Path::new(path));
            let adapter = adapter(recipe, observer)?;
            let request =
                LoadRequest { task, seed, device, dropout, head: HeadPolicy::Reinitialise, adapter };
            Ok((load(folder, request)?, None))
        }
    }
}

/// The adapters that a recipe asks for: new ones, or those of a folder.
fn adapter(recipe: &Recipe, observer: &mut dyn Observer) -> Result<Option<Adapter>, TrainError> {
    let Some(lora) = &recipe.lora else { return Ok(None) };
    if let Some(path) = &lora.adapter {
        let folder = model_folder(path, observer)?;
        if !is_adapter(&folder) {
            let message = format!("`{path}` is no adapter: it has no `adapter_config.json`");
            let help = "name a folder in PEFT's layout, or leave `adapter` out for a new one".to_owned();
            return Err(recipe.faults(vec![recipe.fault_at("lora.adapter", message, Some(help))]).into());
        }
        return Ok(Some(Adapter::Saved(folder)));
    }
    let names: Vec<String> = lora.target_modules.iter().cloned().collect();
    let target_modules = match names.as_slice() {
        [one] if one == "all-linear" => TargetModules::AllLinear,
        // A single word is a name; what has signs of an expression is one.
        [one] if one.contains(['*', '[', '(', '|', '\\', '^', '$', '+', '?']) => {
            if let Err(error) = regex::Regex::new(one) {
                let fault = recipe.fault_at("lora.target_modules", error.to_string(), None);
                return Err(recipe.faults(vec![fault]).into());
            }
            TargetModules::Pattern(one.clone())
        }
        _ => TargetModules::Names(names),
    };
    Ok(Some(Adapter::New(LoraConfig {
        r: lora.r,
        lora_alpha: lora.alpha,
        lora_dropout: lora.dropout,
        target_modules,
        use_rslora: lora.use_rslora,
        modules_to_save: lora.modules_to_save.clone(),
    })))
}

/// What a student of this table is made of.
fn student_request(
    student: &FromTeacher,
    task: ModelTask,
    seed: u64,
    device: Device,
    dropout: Option<f64>,
) -> StudentRequest {
    let layers = student.layers.as_ref().map(|layers| match layers {
        StudentLayers::Numbers(numbers) => LayerChoice::Explicit(numbers.clone()),
        StudentLayers::Spread(Spread::Even) => {
            LayerChoice::Even { num_hidden_layers: student.num_hidden_layers.unwrap_or(1) }
        }
    });
    let mut sizes = student.sizes.clone();
    if layers.is_some() {
        sizes.remove("num_hidden_layers");
    }
    StudentRequest {
        layers,
        architecture: student.architecture.clone(),
        sizes,
        load: LoadRequest { task, seed, device, dropout, head: HeadPolicy::Reinitialise, adapter: None },
    }
}

/// What is wrong with the table of a student, at the keys that it is about.
fn student_error(recipe: &Recipe, student: &FromTeacher, error: StudentError) -> TrainError {
    let fault = |key: &str, message: String| student.fault_at(key, message, None);
    match error {
        StudentError::Model(error) => error.into(),
        StudentError::Config(errors) => {
            let faults =
                errors.into_iter().map(|error| fault(error.key().unwrap_or_default(), error.to_string()));
            recipe.faults(faults.collect()).into()
        }
        error => {
            let key = match &error {
                StudentError::LayersOfOtherSize { key, .. } => key.as_str(),
                StudentError::Wider { key, .. } => key,
                StudentError::LayersNotChosen { .. } => "num_hidden_layers",
                StudentError::LayersOfAnotherArchitecture { .. } => "architecture",
                StudentError::Projection { .. } => "init",
                _ => "layers",
            };
            recipe.faults(vec![fault(key, error.to_string())]).into()
        }
    }
}

/// The configuration alone: sizes are checked before the weights take their memory.
pub(crate) fn read_config(
    recipe: &Recipe,
    folder: Option<&Path>,
    tokenizer: &Tokenizer,
    task: &ModelTask,
    device: &Device,
) -> Result<Box<dyn BaseModelConfig>, TrainError> {
    match (&recipe.model, folder) {
        (ModelTable::Pretrained { path }, folder) => {
            Ok(ModelConfig::read(folder.unwrap_or(Path::new(path)))?.base)
        }
        (ModelTable::FromTeacher(student), folder) => {
            let request = student_request(student, task.clone(), recipe.seed, device.clone(), None);
            let config = student_config(folder.unwrap_or(Path::new("")), &request);
            Ok(config.map_err(|error| student_error(recipe, student, error))?.base)
        }
        (ModelTable::Scratch(component), _) => {
            let faults = |errors| TrainError::from(scratch_faults(recipe, component, errors));
            let architecture = find(&component.name).map_err(|error| faults(vec![error]))?;
            let pad = tokenizer.pad_token_id().unwrap_or(0);
            architecture.from_scratch(&scratch_table(component), tokenizer.vocab_size(), pad).map_err(faults)
        }
    }
}

/// The table of a component without its tag.
fn scratch_table(component: &Component) -> serde_json::Value {
    let mut table = component.to_json();
    if let Some(table) = table.as_object_mut() {
        table.remove(&component.tag);
    }
    table
}

/// What is wrong with the table of a model from scratch, at the keys that it is about.
fn scratch_faults(recipe: &Recipe, component: &Component, errors: Vec<ConfigError>) -> Faults {
    let fault =
        |error: ConfigError| component.fault_at(error.key().unwrap_or_default(), error.to_string(), None);
    recipe.faults(errors.into_iter().map(fault).collect())
}
