//! From a recipe to everything that a run works with, read and checked; nothing is written.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::parameter_groups::GroupRules;
use crate::record::DataFile;
use crate::rows::{Rows, Source};
use crate::tasks::{ClassificationTask, TASKS, Task};
use burn::tensor::Device;
use distill_data::hub::{self, Download, ModelReference};
use distill_data::tokenizer::{Tokenizer, TokenizerKind, TrainConfig};
use distill_data::{
    Column, DataError, DataSpec, Format, LabelMap, LabelSource, LabelStart, fetch, scan_classification, seeded_subset,
    stratified_split,
};
use distill_eval::{Metric, metrics};
use distill_models::{ARCHITECTURES, ConfigError, HeadPolicy, LoadRequest, Loaded, Task as ModelTask, find, from_scratch, load};
use distill_ops::{DeviceSpec, resolve};
use distill_recipe::{
    Component, ComponentSchema, DataFormat, DataTable, Document, Fault, Faults, ModelTable, Recipe,
    TokenizerTraining,
};
use regex::Regex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What validation chooses the model by, unless the recipe names another metric.
const DEFAULT_METRIC: &str = "accuracy";

/// The kinds of task and the architectures that a recipe can name.
pub fn components() -> Vec<ComponentSchema> {
    let tasks = TASKS.iter().map(|task| ComponentSchema {
        table: "task",
        tag: "kind",
        name: task.name,
        schema: (task.schema)(),
    });
    let architectures = ARCHITECTURES.iter().map(|architecture| ComponentSchema {
        table: "model",
        tag: "architecture",
        name: architecture.model_type,
        schema: architecture.scratch_schema(),
    });
    tasks.chain(architectures).collect()
}

/// The JSON Schema of recipes, for editors.
pub fn json_schema() -> serde_json::Value {
    distill_recipe::json_schema(&components())
}

/// Reads a recipe with its `--set` overrides and checks all that can be checked without reading data.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake in it.
pub fn read_recipe(path: &Path, overrides: &[String]) -> Result<Recipe, TrainError> {
    let document = Document::read(path, overrides)?;
    let recipe = Recipe::from_document(document, &components())?;
    validate(&recipe)?;
    Ok(recipe)
}

/// Checks what only this crate knows: tasks, metrics, devices, and that named files are there.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake.
pub fn validate(recipe: &Recipe) -> Result<(), TrainError> {
    let mut faults = Vec::new();
    parse_task(recipe, &mut faults);
    parse_metric(recipe, &mut faults);
    check_files(recipe, &mut faults);
    if recipe.train.early_stopping_patience.is_some() && !has_validation(&recipe.data) {
        let message = "`early_stopping_patience` needs validation rows, and there are none";
        let help = "set `validation_fraction` or `validation` in `[data]`".to_owned();
        faults.push(recipe.fault_at("train.early_stopping_patience", message, Some(help)));
    }
    if faults.is_empty() { Ok(()) } else { Err(recipe.faults(faults).into()) }
}

fn has_validation(data: &DataTable) -> bool {
    data.validation.is_some() || data.validation_fraction > 0.0
}

fn parse_task(recipe: &Recipe, faults: &mut Vec<Fault>) -> Option<Task> {
    let kind = TASKS.iter().find(|kind| kind.name == recipe.task.name);
    match kind {
        Some(kind) => (kind.parse)(&recipe.task, faults),
        None => {
            let known: Vec<&str> = TASKS.iter().map(|kind| kind.name).collect();
            faults.push(distill_recipe::unknown_component_fault(&recipe.task, "task", &known));
            None
        }
    }
}

fn parse_metric(recipe: &Recipe, faults: &mut Vec<Fault>) -> Option<Metric> {
    let name = recipe.train.metric_for_best_model.as_deref().unwrap_or(DEFAULT_METRIC);
    let metric = metrics::by_name(name);
    if metric.is_none() {
        let near = metrics::did_you_mean(metrics::CLASSIFICATION, name);
        let known = metrics::names(metrics::CLASSIFICATION).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let known = format!("known: {}", known.join(", "));
        let help = near.first().map_or(known.clone(), |near| format!("did you mean `{near}`? {known}"));
        let message = format!("unknown metric `{name}`");
        faults.push(recipe.fault_at("train.metric_for_best_model", message, Some(help)));
    }
    metric
}

/// Files that are named without a wildcard must be there; hub addresses are left to the hub.
fn check_files(recipe: &Recipe, faults: &mut Vec<Fault>) {
    let data = &recipe.data;
    let lists = [("train", Some(&data.train)), ("validation", data.validation.as_ref()), ("test", data.test.as_ref())];
    for (key, list) in lists {
        for (index, source) in list.iter().flat_map(|list| list.iter()).enumerate() {
            if source.starts_with("hf://") || source.contains(['*', '?', '[']) || Path::new(source).is_file() {
                continue;
            }
            let path = Path::new(source);
            let message = match path.is_dir() {
                true => format!("`{source}` is a folder, not a file"),
                false => format!("there is no file `{source}`"),
            };
            let help = match path.is_dir() {
                true => format!("name the files, for example `{}/*.csv`", source.trim_end_matches('/')),
                false => missing_file_help(path),
            };
            let item = format!("data.{key}.{index}");
            let key = if recipe.document.root.at(&item).is_some() { item } else { format!("data.{key}") };
            faults.push(recipe.fault_at(&key, message, Some(help)));
        }
    }
}

fn missing_file_help(path: &Path) -> String {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return format!(
            "there is no folder `{}` either; relative paths count from the working directory",
            folder.display()
        );
    };
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match distill_recipe::did_you_mean(&wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{}`?", folder.join(near).display()),
        None => "relative paths count from the working directory".to_owned(),
    }
}

/// Everything that a run works with.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// The device, without gradients.
    pub device: Device,
    /// Training rows.
    pub train: Rows,
    /// Validation rows, if any.
    pub validation: Option<Rows>,
    /// Test rows, if any.
    pub test: Option<Rows>,
    /// The files that were read.
    pub files: Vec<DataFile>,
    /// The labels.
    pub labels: LabelMap,
    /// The tokeniser.
    pub tokenizer: Tokenizer,
    /// The model with its configuration, on the device with gradients.
    pub loaded: Loaded,
    /// Folder, hub id or `from scratch`.
    pub model_source: String,
    /// How parameters are updated.
    pub rules: GroupRules,
    /// Chooses the best model.
    pub metric: Metric,
    /// What is probably not what the user wants.
    pub warnings: Vec<String>,
}

/// Reads and checks everything that the recipe names: data, labels, tokeniser, model, device.
///
/// # Errors
/// Whatever the user has to mend, before anything is written.
pub fn prepare(recipe: &Recipe, observer: &mut dyn Observer) -> Result<Prepared, TrainError> {
    validate(recipe)?;
    let mut faults = Vec::new();
    let task = parse_task(recipe, &mut faults);
    let metric = parse_metric(recipe, &mut faults);
    let (Some(Task::Classification(task)), Some(metric)) = (task, metric) else {
        return Err(recipe.faults(faults).into());
    };
    let spec: DeviceSpec = recipe.device.parse()?;
    let device = resolve(spec)?;
    let data = read_data(recipe, &task, observer)?;
    let folder = match &recipe.model {
        ModelTable::Pretrained { path } => Some(model_folder(path, observer)?),
        ModelTable::Scratch(_) => None,
    };
    let tokenizer = read_tokenizer(recipe, folder.as_deref(), &data.train, observer)?;
    let names = data.labels.names().to_vec();
    let loaded = read_model(recipe, folder.as_deref(), &tokenizer, names, &device, observer)?;
    check_fit(recipe, &tokenizer, &loaded)?;
    let rules = GroupRules {
        weight_decay: recipe.train.weight_decay,
        freeze: freeze_patterns(recipe)?,
        layerwise_lr_decay: recipe.train.layerwise_lr_decay,
        num_hidden_layers: loaded.model.num_hidden_layers(),
    };
    let mut warnings = data.warnings;
    for pattern in rules.unmatched_patterns(loaded.model.as_ref()) {
        warnings.push(format!("`freeze` pattern `{pattern}` matches no parameter of the model"));
    }
    let model_source = recipe.model.path().map_or_else(|| "from scratch".to_owned(), str::to_owned);
    let mut prepared = Prepared {
        recipe: recipe.clone(),
        device,
        train: data.train,
        validation: data.validation,
        test: data.test,
        files: data.files,
        labels: data.labels,
        tokenizer,
        loaded,
        model_source,
        rules,
        metric,
        warnings,
    };
    let rules = prepared.rules.clone();
    prepared.loaded.model.set_trainable(&|name| rules.trainable(name));
    if !prepared.loaded.model.parameters().iter().any(|parameter| rules.trainable(&parameter.name)) {
        let help = "leave at least the classifier's parameters free".to_owned();
        let fault = recipe.fault_at("train.freeze", "`freeze` matches every parameter: nothing is left to train", Some(help));
        return Err(recipe.faults(vec![fault]).into());
    }
    Ok(prepared)
}

fn freeze_patterns(recipe: &Recipe) -> Result<Vec<Regex>, Faults> {
    let mut faults = Vec::new();
    let mut patterns = Vec::new();
    for pattern in &recipe.train.freeze {
        match Regex::new(pattern) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => faults.push(recipe.fault_at("train.freeze", error.to_string(), None)),
        }
    }
    if faults.is_empty() { Ok(patterns) } else { Err(recipe.faults(faults)) }
}

struct Data {
    train: Rows,
    validation: Option<Rows>,
    test: Option<Rows>,
    files: Vec<DataFile>,
    labels: LabelMap,
    warnings: Vec<String>,
}

fn read_data(recipe: &Recipe, task: &ClassificationTask, observer: &mut dyn Observer) -> Result<Data, TrainError> {
    let table = &recipe.data;
    let mut files = Vec::new();
    let start = table.labels_start.map(|start| if start == 0 { LabelStart::Zero } else { LabelStart::One });
    let infer = LabelSource::Infer { names: task.labels.as_deref(), start };
    let train = read_source(&table.train, table, infer, "train", &mut files, observer)?;
    let Some(labels) = train.scan.label_map.clone() else { return Err(DataError::NoLabelColumn.into()) };
    let mut read = |sources: &[String], used_as, observer: &mut dyn Observer| {
        let source = read_source(sources, table, LabelSource::Map(&labels), used_as, &mut files, observer)?;
        Ok::<_, TrainError>(Rows::all(Arc::new(source)))
    };
    let given = table.validation.as_ref().map(|sources| read(sources, "validation", observer)).transpose()?;
    let test = table.test.as_ref().map(|sources| read(sources, "test", observer)).transpose()?;
    let mut train = Rows::all(Arc::new(train));
    if let Some(max_rows) = table.max_rows {
        train.rows = seeded_subset(train.len(), max_rows, recipe.seed);
    }
    let (train, validation) = match given {
        Some(validation) => (train, Some(validation)),
        None => split_off(train, table.validation_fraction, recipe.seed)?,
    };
    if train.is_empty() {
        let help = "lower `validation_fraction`, or give more rows".to_owned();
        return Err(TrainError::Unusable { message: "no rows are left to train on".to_owned(), help });
    }
    let mut warnings = Vec::new();
    let present: HashSet<u32> = train.labels().collect();
    for (id, name) in labels.names().iter().enumerate() {
        if !present.contains(&(id as u32)) {
            warnings.push(format!("the label `{name}` has no training row"));
        }
    }
    Ok(Data { train, validation, test, files, labels, warnings })
}

/// Takes the validation part out of the training rows.
fn split_off(rows: Rows, fraction: f64, seed: u64) -> Result<(Rows, Option<Rows>), TrainError> {
    let labels: Vec<u32> = rows.labels().collect();
    let split = stratified_split(&labels, fraction, seed)?;
    let part = |positions: &[usize]| Rows {
        source: rows.source.clone(),
        rows: positions.iter().filter_map(|&position| rows.rows.get(position).copied()).collect(),
    };
    let validation = (!split.validation.is_empty()).then(|| part(&split.validation));
    Ok((part(&split.train), validation))
}

fn read_source(
    sources: &[String],
    table: &DataTable,
    labels: LabelSource<'_>,
    used_as: &'static str,
    files: &mut Vec<DataFile>,
    observer: &mut dyn Observer,
) -> Result<Source, TrainError> {
    let spec = fetch(&data_spec(sources, table)?, &mut |download| download_event(download, observer))?;
    let what = format!("reading {used_as} rows");
    observer.event(&Event::Stage { message: what.clone() });
    let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total: None });
    let scan = scan_classification(&spec, labels, &mut progress)?;
    files.extend(scan.files.iter().map(|file| DataFile {
        used_as,
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        bytes: file.bytes,
        rows: file.rows,
    }));
    Ok(Source { spec, scan })
}

fn data_spec(sources: &[String], table: &DataTable) -> Result<DataSpec, DataError> {
    let format = |format: DataFormat| {
        Format::from_name(match format {
            DataFormat::Csv => "csv",
            DataFormat::Tsv => "tsv",
            DataFormat::Jsonl => "jsonl",
            DataFormat::Parquet => "parquet",
            DataFormat::Text => "text",
        })
    };
    let column = |column: &distill_recipe::Column| match column {
        distill_recipe::Column::Name(name) => Column::Name(name.clone()),
        distill_recipe::Column::Number(number) => Column::Number(*number),
    };
    Ok(DataSpec {
        sources: sources.to_vec(),
        format: table.format.map(format).transpose()?,
        header: table.header,
        delimiter: table.delimiter,
        text: table.text.iter().map(column).collect(),
        label: Some(column(&table.label)),
    })
}

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

fn download_event(download: Download<'_>, observer: &mut dyn Observer) {
    let what = format!("downloading {}", download.file);
    observer.event(&Event::Progress { what, done: download.bytes, total: Some(download.total) });
}

fn read_tokenizer(
    recipe: &Recipe,
    model: Option<&Path>,
    train: &Rows,
    observer: &mut dyn Observer,
) -> Result<Tokenizer, TrainError> {
    let table = recipe.tokenizer.as_ref();
    if let Some(training) = table.and_then(|table| table.train.as_ref()) {
        if model.is_some() {
            let help = "remove `[tokenizer]`: a pretrained model has its own".to_owned();
            let message = "a pretrained model cannot be used with a new tokenizer";
            let fault = recipe.fault_at("tokenizer.train", message, Some(help));
            return Err(recipe.faults(vec![fault]).into());
        }
        observer.event(&Event::Stage { message: "training the tokenizer".to_owned() });
        let max_length = recipe.data.max_length;
        let mut texts = Vec::with_capacity(train.len());
        train.for_each_text(&mut |_, text| {
            texts.push(text.to_owned());
            Ok(())
        })?;
        return Ok(Tokenizer::train(&texts, &train_config(training))?.with_model_max_length(max_length));
    }
    if let Some(path) = table.and_then(|table| table.path.as_deref()) {
        return Ok(Tokenizer::load(&model_folder(path, observer)?)?);
    }
    match model {
        Some(folder) => Ok(Tokenizer::load(folder)?),
        None => {
            let help = "add `[tokenizer]` with `train = { vocab_size = 4000 }` or `path = \"...\"`".to_owned();
            let message = "a model from scratch needs a tokenizer";
            Err(recipe.faults(vec![recipe.fault_at("model.architecture", message, Some(help))]).into())
        }
    }
}

fn train_config(training: &TokenizerTraining) -> TrainConfig {
    TrainConfig {
        kind: match training.kind {
            distill_recipe::TokenizerKind::Wordpiece => TokenizerKind::WordPiece,
            distill_recipe::TokenizerKind::Bpe => TokenizerKind::Bpe,
        },
        vocab_size: training.vocab_size,
        min_frequency: training.min_frequency,
        lowercase: training.lowercase,
    }
}

fn read_model(
    recipe: &Recipe,
    folder: Option<&Path>,
    tokenizer: &Tokenizer,
    labels: Vec<String>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Loaded, TrainError> {
    let task = ModelTask::Classification { id2label: labels };
    let (seed, device, dropout) = (recipe.seed, device.clone().autodiff(), recipe.train.dropout);
    match (&recipe.model, folder) {
        (ModelTable::Scratch(component), _) => {
            observer.event(&Event::Stage { message: format!("making a new {} model", component.name) });
            let architecture = find(&component.name).map_err(|error| scratch_faults(recipe, component, vec![error]))?;
            let (table, pad) = (scratch_table(component, dropout), tokenizer.pad_token_id().unwrap_or(0));
            from_scratch(architecture, &table, tokenizer.vocab_size(), pad, task, seed, &device)
                .map_err(|errors| scratch_faults(recipe, component, errors).into())
        }
        (ModelTable::Pretrained { path }, folder) => {
            observer.event(&Event::Stage { message: format!("loading `{path}`") });
            let folder = folder.unwrap_or(Path::new(path));
            let request = LoadRequest { task, seed, device, dropout, head: HeadPolicy::Reinitialise };
            Ok(load(folder, request)?)
        }
    }
}

/// The table of a component without its tag; `train.dropout` stands for the two dropout keys that are not given.
fn scratch_table(component: &Component, dropout: Option<f64>) -> serde_json::Value {
    let mut table = component.to_json();
    if let Some(table) = table.as_object_mut() {
        table.remove(&component.tag);
        for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
            if let Some(dropout) = dropout {
                table.entry(key).or_insert(dropout.into());
            }
        }
    }
    table
}

/// What is wrong with the table of a model from scratch, at the keys that it is about.
fn scratch_faults(recipe: &Recipe, component: &Component, errors: Vec<ConfigError>) -> Faults {
    let fault = |error: ConfigError| component.fault_at(error.key().unwrap_or_default(), error.to_string(), None);
    recipe.faults(errors.into_iter().map(fault).collect())
}

/// Whether tokens and lengths fit the model.
fn check_fit(recipe: &Recipe, tokenizer: &Tokenizer, loaded: &Loaded) -> Result<(), TrainError> {
    let model = loaded.config.encoder.vocab_size();
    // A model may have more rows than its tokenizer has tokens: rounded up, or reserved.
    if tokenizer.vocab_size() > model {
        return Err(TrainError::VocabularyMismatch { tokenizer: tokenizer.vocab_size(), model });
    }
    let limit = loaded.config.encoder.max_length();
    if recipe.data.max_length > limit {
        let help = Some(format!("lower it to {limit} or less"));
        let message = format!("`max_length` is {}, the model reads at most {limit} tokens", recipe.data.max_length);
        return Err(recipe.faults(vec![recipe.fault_at("data.max_length", message, help)]).into());
    }
    Ok(())
}
