//! Reads recipes, with every check that needs no data: what `distill-recipe` knows of tables and keys, and what only
//! this crate knows of tasks, metrics and files. All mistakes are reported together.

use crate::computing::{NoBf16, knows_bf16};
use crate::error::TrainError;
use crate::objectives::{Level, LossConfig, OBJECTIVES, explained_losses, method_losses, usual_losses};
use crate::report::{ChosenMetric, MetricSet, OBJECTIVE};
use crate::tasks::{TASKS, Task};
use distill_eval::metrics;
use distill_models::ARCHITECTURES;
use distill_recipe::{
    ComponentSchema, Device, Document, Fault, Faults, LOSSES, Node, RationaleMode, Recipe, Value,
    did_you_mean, stages,
};
use std::path::{Path, PathBuf};

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
    let losses = OBJECTIVES.iter().map(|objective| ComponentSchema {
        table: LOSSES,
        tag: "kind",
        name: objective.name,
        schema: (objective.schema)(),
    });
    tasks.chain(architectures).chain(losses).collect()
}

/// The JSON Schema of recipes, for editors.
pub fn json_schema() -> serde_json::Value {
    distill_recipe::json_schema(&components())
}

/// One run of a recipe: the whole of it, or a `[[stage]]`.
#[derive(Clone, Debug)]
pub struct StageRecipe {
    /// Name of the stage; empty for a recipe without stages.
    pub name: String,
    /// The run.
    pub recipe: Recipe,
    /// The folder of the model that it starts from, where an earlier stage makes it.
    pub starts_from: Option<PathBuf>,
}

/// Reads a recipe with its `--set` overrides and checks all that can be checked without reading data: its only run, or
/// that of each stage in order.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake in it.
pub fn read_stages(path: &Path, overrides: &[String]) -> Result<Vec<StageRecipe>, TrainError> {
    let document = Document::read(path, overrides)?;
    let mut faults: Vec<Fault> = Vec::new();
    let mut recipes = Vec::new();
    let several = document.root.get("stage").is_some();
    for stage in stages(&document)? {
        let mut found = Vec::new();
        match Recipe::from_document(stage.document.clone(), &components()) {
            Ok(recipe) => {
                recipes.push(StageRecipe { name: stage.name, recipe, starts_from: stage.starts_from })
            }
            Err(Faults { faults, .. }) => found.extend(faults),
        }
        found.extend(own_faults(&stage.document));
        // What stands in the recipe itself is in every stage.
        found.retain(|fault| !several || !faults.contains(fault));
        faults.extend(found);
    }
    if faults.is_empty() { Ok(recipes) } else { Err(document.faults(faults).into()) }
}

/// Reads a recipe that is one run; see [`read_stages`].
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake in it; of a recipe with stages the last one is given.
pub fn read_recipe(path: &Path, overrides: &[String]) -> Result<Recipe, TrainError> {
    let last = read_stages(path, overrides)?.pop();
    last.map(|stage| stage.recipe).ok_or(TrainError::Interrupted)
}

/// Checks what only this crate knows: metrics, files, settings that need one another.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake.
pub fn validate(recipe: &Recipe) -> Result<(), TrainError> {
    let faults = own_faults(&recipe.document);
    if faults.is_empty() { Ok(()) } else { Err(recipe.faults(faults).into()) }
}

/// The task of a recipe.
///
/// # Errors
/// [`TrainError::Recipe`] with what is wrong with its table.
pub fn task_of(recipe: &Recipe) -> Result<Task, TrainError> {
    let mut faults = Vec::new();
    let task = match TASKS.iter().find(|kind| kind.name == recipe.task.name) {
        Some(kind) => (kind.parse)(&recipe.task, &mut faults),
        None => {
            let known: Vec<&str> = TASKS.iter().map(|kind| kind.name).collect();
            faults.push(distill_recipe::unknown_component_fault(&recipe.task, "task", &known));
            None
        }
    };
    task.ok_or_else(|| recipe.faults(faults).into())
}

/// What a recipe minimises, as it asks for it: the losses of its `[distill]`, or of its method, or the labels alone.
///
/// # Errors
/// [`TrainError::Recipe`] with what is wrong with a loss.
pub fn losses_of(recipe: &Recipe, level: Level) -> Result<Vec<LossConfig>, TrainError> {
    let Some(distill) = &recipe.distill else {
        return Ok(match &recipe.rationale {
            Some(table) if table.mode == RationaleMode::MultiTask => explained_losses(table.weight),
            _ => usual_losses(level),
        });
    };
    if let Some(method) = distill.table.method {
        return Ok(method_losses(method, level, distill.table.temperature));
    }
    let (mut configs, mut faults) = (Vec::new(), Vec::new());
    for component in &distill.losses {
        match OBJECTIVES.iter().find(|kind| kind.name == component.name) {
            Some(kind) => configs.extend((kind.parse)(component, &mut faults)),
            None => {
                let known: Vec<&str> = OBJECTIVES.iter().map(|kind| kind.name).collect();
                faults.push(distill_recipe::unknown_component_fault(component, "loss", &known));
            }
        }
    }
    if faults.is_empty() { Ok(configs) } else { Err(recipe.faults(faults).into()) }
}

/// The metric that chooses the best model of a recipe: its own, or accuracy, or the loss of a language model; what is
/// minimised, where the head does not learn.
///
/// # Errors
/// [`TrainError::Recipe`] if there is none of that name, or it measures a head that does not learn.
pub fn metric_of(recipe: &Recipe, task: &Task, head_learns: bool) -> Result<ChosenMetric, TrainError> {
    let set = task.metrics();
    let Some(name) = recipe.train.metric_for_best_model.as_deref() else {
        let usual = match task {
            Task::Classification(_) => "accuracy",
            Task::Rationale(task) if task.answers_validation(recipe) => "accuracy",
            _ => "loss",
        };
        let usual = if head_learns { usual } else { OBJECTIVE };
        return Ok(ChosenMetric::by_name(usual, set).unwrap_or(ChosenMetric::Objective));
    };
    let fault = || TrainError::from(recipe.faults(own_faults(&recipe.document)));
    match ChosenMetric::by_name(name, set).ok_or_else(fault)? {
        ChosenMetric::Objective => Ok(ChosenMetric::Objective),
        metric if head_learns => Ok(metric),
        _ => {
            let message = format!("`{name}` measures the head, and none of the losses teaches it");
            let help = Some(format!(
                "leave it out: the best model is then told by `{OBJECTIVE}`, the losses themselves"
            ));
            let fault = recipe.fault_at("train.metric_for_best_model", message, help);
            Err(recipe.faults(vec![fault]).into())
        }
    }
}

/// Mistakes of a recipe whose keys may themselves have mistakes: only what is there and of the right type is looked at.
fn own_faults(document: &Document) -> Vec<Fault> {
    let root = &document.root;
    let mut faults = Vec::new();
    faults.extend(metric_fault(root));
    faults.extend(early_stopping_fault(root));
    faults.extend(bf16_fault(root));
    faults.extend(rationale_fault(root));
    for key in ["data.train", "data.validation", "data.test", "distill.transfer_data"] {
        file_faults(root, key, &mut faults);
    }
    faults
}

fn metric_fault(root: &Node) -> Option<Fault> {
    const KEY: &str = "train.metric_for_best_model";
    let name = root.at(KEY)?.as_str()?;
    let kind = root.at("task.kind").and_then(Node::as_str);
    let task = TASKS.iter().find(|task| Some(task.name) == kind);
    let set = task.map_or(MetricSet::Classification, |task| task.metrics);
    if ChosenMetric::by_name(name, set).is_some() {
        return None;
    }
    let of_tokens = || metrics::names(metrics::LANGUAGE_MODEL).collect::<Vec<&str>>();
    let (known, near): (Vec<&str>, _) = match set {
        MetricSet::LanguageModel => (of_tokens(), metrics::did_you_mean(metrics::LANGUAGE_MODEL, name)),
        MetricSet::Generation => (
            metrics::names(metrics::GENERATION_METRICS).chain(of_tokens()).collect(),
            metrics::did_you_mean(metrics::GENERATION_METRICS, name),
        ),
        MetricSet::Rationale => (
            metrics::names(metrics::RATIONALE).chain(["loss", "perplexity"]).collect(),
            metrics::did_you_mean(metrics::RATIONALE, name),
        ),
        MetricSet::Classification => (
            metrics::names(metrics::CLASSIFICATION).collect(),
            metrics::did_you_mean(metrics::CLASSIFICATION, name),
        ),
    };
    let known: Vec<String> = known.into_iter().chain([OBJECTIVE]).map(|name| format!("`{name}`")).collect();
    let known = format!("known: {}", known.join(", "));
    let help = match near.first() {
        Some(near) => format!("did you mean `{near}`? {known}"),
        None => known,
    };
    Some(root.fault_at(KEY, format!("unknown metric `{name}`")).with_help(help))
}

fn early_stopping_fault(root: &Node) -> Option<Fault> {
    const KEY: &str = "train.early_stopping_patience";
    root.at(KEY)?;
    let fraction = root.at("data.validation_fraction").map(|node| &node.value);
    let none = matches!(fraction, Some(Value::Float(0.0) | Value::Integer(0)));
    if !none || root.at("data.validation").is_some() {
        return None;
    }
    let message = "`early_stopping_patience` needs validation rows, and there are none";
    Some(root.fault_at(KEY, message).with_help("set `validation_fraction` or `validation` in `[data]`"))
}

/// `[rationale]` and its task need each other.
fn rationale_fault(root: &Node) -> Option<Fault> {
    let kind = root.at("task.kind")?;
    match (kind.as_str()? == "rationale", root.get("rationale")) {
        (true, None) => {
            let help = "write `[rationale]` with `label_prompt = \"predict: {question}\"` and `label = \"{answer}\"`";
            Some(root.fault_at("task.kind", "the task `rationale` needs a `[rationale]`").with_help(help))
        }
        (false, Some(table)) => {
            let message = "`[rationale]` belongs to the task `rationale`";
            Some(Fault::new(message, table.key_label()).with_help("write `kind = \"rationale\"` in `[task]`"))
        }
        (true, Some(_)) => {
            let sequence_level = root.at("distill.method").and_then(Node::as_str) == Some("sequence_level");
            let texts = root.at("distill.teacher_texts").map(|_| "distill.teacher_texts");
            let texts = texts.or(sequence_level.then_some("distill.method"));
            let top_k = root.at("distill.cache_top_k").map(|_| "distill.cache_top_k");
            let (key, message, help) = match (texts, top_k) {
                (Some(key), _) => (
                    key,
                    "the teacher's texts take the place of targets, and the task `rationale` has labels and rationales",
                    "ask the teacher by `distill rationales`, and train on its answers: `label = \"{teacher_answer}\"`",
                ),
                (None, Some(key)) => (
                    key,
                    "the likeliest tokens are kept for one text a row, and the task `rationale` has two",
                    "remove it: the teacher then runs along",
                ),
                (None, None) => return None,
            };
            Some(root.fault_at(key, message).with_help(help))
        }
        _ => None,
    }
}

/// bf16 on a device that is named and does not know it; what `auto` stands for is found later.
fn bf16_fault(root: &Node) -> Option<Fault> {
    const KEY: &str = "train.dtype";
    let device = root.at("device")?.as_str()?;
    let named = Device::parse(device).is_some_and(|device| device != Device::Auto);
    if root.at(KEY)?.as_str()? != "bf16" || !named || knows_bf16(device) {
        return None;
    }
    let error = NoBf16::new(device);
    Some(root.fault_at(KEY, error.message()).with_help(error.help()))
}

/// Files that are named without a wildcard must be there; hub addresses are left to the hub.
fn file_faults(root: &Node, path: &str, faults: &mut Vec<Fault>) {
    let Some(node) = root.at(path) else { return };
    let items = match &node.value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (format!("{path}.{index}"), item)).collect()
        }
        _ => vec![(path.to_owned(), node)],
    };
    for (path, item) in items {
        let Some(source) = item.as_str() else { continue };
        // An empty name is a fault of its own.
        let elsewhere = source.is_empty() || source.starts_with("hf://") || source.contains(['*', '?', '[']);
        let file = Path::new(source);
        if elsewhere || file.is_file() {
            continue;
        }
        let (message, help) = if file.is_dir() {
            let example = format!("name the files, for example `{}/*.csv`", source.trim_end_matches('/'));
            (format!("`{source}` is a folder, not a file"), example)
        } else {
            (format!("there is no file `{source}`"), missing_file_help(file))
        };
        faults.push(root.fault_at(&path, message).with_help(help));
    }
}

fn missing_file_help(path: &Path) -> String {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return format!(
            "there is no folder `{}` either; relative paths count from the working directory",
            folder.display()
        );
    };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match did_you_mean(&wanted, names.iter().map(String::as_str)) {
        Some(near) => {
            format!("did you mean `{}`?", parent.map_or(near.into(), |parent| parent.join(near)).display())
        }
        None => "relative paths count from the working directory".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("r.toml");
        std::fs::write(&path, text).expect("writes");
        match read_recipe(&path, &[]) {
            Err(TrainError::Recipe(faults)) => {
                faults.faults.iter().map(|fault| fault.message.clone()).collect()
            }
            Err(error) => panic!("{error}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn own_mistakes_are_told_with_those_of_the_keys() {
        let text = r#"
            name = "a"
            [task]
            kind = "classification"
            [model]
            path = "p"
            [data]
            train = "not-there.csv"
            validation_fraction = 0
            max_lenght = 3
            [train]
            metric_for_best_model = "f1_macro"
            early_stopping_patience = 2
        "#;
        let found = messages(text);
        let expected = [
            "there is no file `not-there.csv`",
            "unknown key `max_lenght` in `[data]`",
            "unknown metric `f1_macro`",
            "`early_stopping_patience` needs validation rows, and there are none",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn components_are_in_the_schema() {
        let text = json_schema().to_string();
        for name in TASKS.iter().map(|task| task.name).chain(ARCHITECTURES.iter().map(|a| a.model_type)) {
            assert!(text.contains(name), "{name}");
        }
    }
}
