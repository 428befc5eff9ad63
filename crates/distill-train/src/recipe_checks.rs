//! Reads recipes, with every check that needs no data: what `distill-recipe` knows of tables and keys, and what only
//! this crate knows of tasks, metrics and files. All mistakes are reported together.

use crate::computing::{NoBf16, knows_bf16};
use crate::error::TrainError;
use crate::objectives::Objective;
use crate::tasks::{TASKS, Task};
use distill_eval::{Metric, metrics};
use distill_models::ARCHITECTURES;
use distill_recipe::{ComponentSchema, Device, Document, Fault, Faults, Node, Recipe, Value, did_you_mean};
use std::path::Path;

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
    let own = own_faults(&document);
    match Recipe::from_document(document.clone(), &components()) {
        Ok(recipe) if own.is_empty() => Ok(recipe),
        Ok(_) => Err(document.faults(own).into()),
        Err(Faults { faults, .. }) => Err(document.faults(faults.into_iter().chain(own).collect()).into()),
    }
}

/// Checks what only this crate knows: metrics, files, settings that need one another.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake.
pub fn validate(recipe: &Recipe) -> Result<(), TrainError> {
    let faults = own_faults(&recipe.document);
    if faults.is_empty() { Ok(()) } else { Err(recipe.faults(faults).into()) }
}

/// The task of a recipe, and what it minimises.
///
/// # Errors
/// [`TrainError::Recipe`] with what is wrong with its table.
pub fn task_of(recipe: &Recipe) -> Result<(Task, Objective), TrainError> {
    let mut faults = Vec::new();
    let task = match TASKS.iter().find(|kind| kind.name == recipe.task.name) {
        Some(kind) => (kind.parse)(&recipe.task, &mut faults).map(|task| (task, kind.objective)),
        None => {
            let known: Vec<&str> = TASKS.iter().map(|kind| kind.name).collect();
            faults.push(distill_recipe::unknown_component_fault(&recipe.task, "task", &known));
            None
        }
    };
    task.ok_or_else(|| recipe.faults(faults).into())
}

/// The metric that chooses the best model of a recipe.
///
/// # Errors
/// [`TrainError::Recipe`] if there is none of that name.
pub fn metric_of(recipe: &Recipe) -> Result<Metric, TrainError> {
    let name = recipe.train.metric_for_best_model.as_deref().unwrap_or(DEFAULT_METRIC);
    let fault = || recipe.faults(own_faults(&recipe.document)).into();
    metrics::by_name(name).ok_or_else(fault)
}

/// Mistakes of a recipe whose keys may themselves have mistakes: only what is there and of the right type is looked at.
fn own_faults(document: &Document) -> Vec<Fault> {
    let root = &document.root;
    let mut faults = Vec::new();
    faults.extend(metric_fault(root));
    faults.extend(early_stopping_fault(root));
    faults.extend(bf16_fault(root));
    for key in ["train", "validation", "test"] {
        file_faults(root, key, &mut faults);
    }
    faults
}

fn metric_fault(root: &Node) -> Option<Fault> {
    const KEY: &str = "train.metric_for_best_model";
    let name = root.at(KEY)?.as_str()?;
    if metrics::by_name(name).is_some() {
        return None;
    }
    let known = metrics::names(metrics::CLASSIFICATION).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let known = format!("known: {}", known.join(", "));
    let help = match metrics::did_you_mean(metrics::CLASSIFICATION, name).first() {
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
fn file_faults(root: &Node, key: &str, faults: &mut Vec<Fault>) {
    let path = format!("data.{key}");
    let Some(node) = root.at(&path) else { return };
    let items = match &node.value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (format!("{path}.{index}"), item)).collect()
        }
        _ => vec![(path, node)],
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
