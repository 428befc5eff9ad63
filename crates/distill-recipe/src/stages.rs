//! `[[stage]]`: a recipe that is several runs, one after the other.

use std::path::PathBuf;

use crate::document::Document;
use crate::fault::{Fault, Faults};
use crate::node::{Node, Table, Value};

/// The key of the stages.
pub(crate) const KEY: &str = "stage";
/// Where the folders of all stages but the last are, below the recipe's own.
pub const STAGE_FOLDER: &str = "stages";
/// The tables that a stage may write: all but where the student comes from and the tokenizer, which stay.
const TABLES: &[&str] = &["task", "teacher", "distill", "data", "augment", "train"];

/// Whether a stage may have this table.
pub(crate) fn is_of_a_stage(table: &str) -> bool {
    TABLES.contains(&table)
}

/// One run of a recipe.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name; empty for a recipe without stages.
    pub name: String,
    /// Its recipe.
    pub document: Document,
    /// The folder of the model that it starts from, where that is the last stage's.
    pub starts_from: Option<PathBuf>,
}

/// The runs of a recipe: itself, or one for each `[[stage]]`, whose tables are laid over those of the recipe.
///
/// Every stage but the last writes to `stages/NUMBER-NAME` below the recipe's folder; each but the first starts from the
/// model of the one before it.
///
/// # Errors
/// [`Faults`] in the list of stages itself; the tables are checked by [`Recipe::from_document`](crate::Recipe).
pub fn stages(document: &Document) -> Result<Vec<Stage>, Faults> {
    let Some(list) = document.root.get(KEY) else {
        return Ok(vec![Stage { name: String::new(), document: document.clone(), starts_from: None }]);
    };
    let mut faults = Vec::new();
    let items = match &list.value {
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        _ => {
            let message = "`stage` must be a list of tables";
            faults
                .push(Fault::new(message, list.key_label()).with_help("write `[[stage]]` for each of them"));
            &[]
        }
    };
    let names: Vec<String> = items.iter().map(|item| name(item, &mut faults)).collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) && !name.is_empty() {
            faults.push(items[index].fault_at("name", format!("two stages have the name `{name}`")));
        }
    }
    if !faults.is_empty() {
        return Err(document.faults(faults));
    }
    let folder = folder(document);
    let mut base = document.clone();
    if let Value::Table(table) = &mut base.root.value {
        table.shift_remove(KEY);
    }
    let mut stages: Vec<Stage> = Vec::with_capacity(items.len());
    let mut before: Option<PathBuf> = None;
    for (index, (item, name)) in items.iter().zip(&names).enumerate() {
        let mut document = base.clone();
        let tables = item.as_table().into_iter().flatten().filter(|(key, _)| is_of_a_stage(key));
        let tables = tables.map(|(key, node)| (key.clone(), node.clone())).collect();
        lay_over(&mut document.root, &Node { value: Value::Table(tables), ..item.clone() });
        let last = index + 1 == items.len();
        let output = match last {
            true => folder.clone(),
            false => folder.join(STAGE_FOLDER).join(format!("{}-{name}", index + 1)),
        };
        if !last {
            let run = document.root.get("name").and_then(Node::as_str).unwrap_or_default();
            let run = format!("{run}-{name}");
            set(&mut document.root, item, "name", run);
        }
        set(&mut document.root, item, "output_dir", output.display().to_string());
        if let Some(before) = &before {
            let mut student = Node { value: Value::Table(Table::new()), ..item.clone() };
            set(&mut student, item, "path", before.display().to_string());
            if let Value::Table(table) = &mut document.root.value {
                let key = if table.contains_key("model") { "model" } else { "student" };
                table.insert(key.to_string(), student);
                // A tokenizer that was trained for the first stage comes with its model.
                table.shift_remove("tokenizer");
            }
        }
        stages.push(Stage { name: name.clone(), document, starts_from: before.replace(output) });
    }
    Ok(stages)
}

/// The name of a stage; whatever is wrong with its keys goes to `faults`.
fn name(item: &Node, faults: &mut Vec<Fault>) -> String {
    let Some(table) = item.as_table() else {
        faults.push(Fault::new("a stage must be a table", item.label()).with_help("write `[[stage]]`"));
        return String::new();
    };
    for (key, node) in table.iter().filter(|(key, _)| *key != "name" && !is_of_a_stage(key)) {
        let known = TABLES.iter().map(|table| format!("`[stage.{table}]`")).collect::<Vec<_>>().join(", ");
        let help = match key.as_str() {
            "student" | "model" => "a stage starts from the model of the one before it".to_string(),
            _ => format!("a stage takes `name`, {known}"),
        };
        faults.push(
            Fault::new(format!("unknown key `{key}` in `[[stage]]`"), node.key_label()).with_help(help),
        );
    }
    match table.get("name").and_then(Node::as_str) {
        Some(name) if !name.is_empty() && !name.contains(['/', '\\']) && name != "." && name != ".." => {
            name.to_string()
        }
        Some(name) => {
            let message =
                format!("`name` must be usable as a folder name, without `/` or `\\`, found `{name}`");
            faults.push(item.fault_at("name", message));
            String::new()
        }
        None => {
            let fault = Fault::new("missing key `name` in `[[stage]]`", item.key_label());
            faults.push(fault.with_help("its folder is named by it"));
            String::new()
        }
    }
}

/// The folder of the whole recipe.
fn folder(document: &Document) -> PathBuf {
    let text = |key: &str| document.root.get(key).and_then(Node::as_str).map(str::to_string);
    text("output_dir")
        .map_or_else(|| PathBuf::from("checkpoints").join(text("name").unwrap_or_default()), PathBuf::from)
}

fn set(table: &mut Node, place: &Node, key: &str, value: String) {
    if let Value::Table(table) = &mut table.value {
        let node = Node { value: Value::String(value), key_span: None, ..place.clone() };
        table.insert(key.to_string(), node);
    }
}

/// Keys that stand for the same thing, or belong to it: the one that a stage writes drives out the other.
const EXCLUSIVE: [(&str, &str); 9] = [
    ("method", "losses"),
    ("losses", "method"),
    ("losses", "temperature"),
    ("path", "models"),
    ("path", "self_distillation"),
    ("models", "path"),
    ("models", "self_distillation"),
    ("self_distillation", "path"),
    ("self_distillation", "models"),
];

/// Tables are laid over one another key by key; everything else is replaced, a table of another `kind` too.
fn lay_over(under: &mut Node, over: &Node) {
    let kind = |table: &Node| table.get("kind").and_then(Node::as_str).map(str::to_string);
    let another_kind = kind(over).is_some() && kind(over) != kind(under);
    let (Value::Table(under), Value::Table(over), false) = (&mut under.value, &over.value, another_kind)
    else {
        *under = over.clone();
        return;
    };
    for (written, other) in EXCLUSIVE {
        if over.contains_key(written) {
            under.shift_remove(other);
        }
    }
    for (key, node) in over {
        match under.get_mut(key) {
            Some(under) => lay_over(under, node),
            None => {
                under.insert(key.clone(), node.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    const TEXT: &str = r#"
name = "a"
[task]
kind = "classification"
[teacher]
path = "t"
[student]
init = "from_teacher"
layers = [0, 1]
[data]
train = "x.csv"
[train]
epochs = 2
learning_rate = 1e-4
[[stage]]
name = "first"
train = { epochs = 1 }
[stage.distill]
method = "tinybert"
[[stage]]
name = "second"
[stage.distill]
losses = [{ kind = "soft_labels" }]
[stage.data]
max_length = 64
"#;

    fn recipes(text: &str) -> Vec<Recipe> {
        let document = Document::parse("r.toml", text, &[]).unwrap();
        let stages = stages(&document).unwrap();
        stages.into_iter().map(|stage| Recipe::from_document(stage.document, &[]).unwrap()).collect()
    }

    #[test]
    fn a_stage_is_the_recipe_with_its_own_tables_over_it() {
        let found = recipes(TEXT);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("a-first", "a"));
        assert_eq!(found[0].output_dir, PathBuf::from("checkpoints/a/stages/1-first"));
        assert_eq!(found[1].output_dir, PathBuf::from("checkpoints/a"));
        assert_eq!((found[0].train.epochs, found[1].train.epochs), (1.0, 2.0));
        assert_eq!(found[0].train.learning_rate, 1e-4);
        assert!(matches!(found[0].model, crate::ModelTable::FromTeacher(_)));
        assert_eq!(found[1].model.path(), Some("checkpoints/a/stages/1-first"));
        assert_eq!((found[0].data.max_length, found[1].data.max_length), (128, 64));
        assert_eq!(found[1].distill.as_ref().unwrap().losses.len(), 1);
    }

    #[test]
    fn a_stage_drives_out_what_does_not_go_with_its_own_keys() {
        let text = r#"
name = "a"
[task]
kind = "classification"
labels = ["x", "y"]
[teacher]
path = "t"
[student]
path = "s"
[distill]
method = "soft_labels"
temperature = 4.0
[data]
train = "x.csv"
[[stage]]
name = "general"
task = { kind = "masked_language_modeling" }
teacher = { self_distillation = true }
distill = { losses = [{ kind = "masked_lm" }] }
[[stage]]
name = "last"
[stage.task]
kind = "classification"
"#;
        let found = recipes(text);
        assert_eq!(found[0].task.to_json(), serde_json::json!({ "kind": "masked_language_modeling" }));
        assert_eq!(found[0].teacher.as_ref().unwrap().path, None);
        assert_eq!(found[0].distill.as_ref().unwrap().table.temperature, None);
        let labels = serde_json::json!({ "kind": "classification", "labels": ["x", "y"] });
        assert_eq!(found[1].task.to_json(), labels);
        assert_eq!(found[1].distill.as_ref().unwrap().table.temperature, Some(4.0));
    }

    #[test]
    fn a_recipe_without_stages_is_its_own_stage() {
        let text =
            "name = \"a\"\n[task]\nkind = \"classification\"\n[model]\npath = \"p\"\n[data]\ntrain = \"x\"\n";
        assert_eq!(recipes(text).len(), 1);
    }

    #[test]
    fn what_a_stage_cannot_have_is_told_with_its_place() {
        let faults = |stage: &str| {
            let document = Document::parse("r.toml", format!("name = \"a\"\n{stage}"), &[]).unwrap();
            stages(&document).unwrap_err().to_string()
        };
        assert!(
            faults("[[stage]]\nname = \"x\"\n[stage.student]\npath = \"p\"\n")
                .contains("the model of the one before")
        );
        assert!(faults("[[stage]]\n").contains("missing key `name` in `[[stage]]`"));
        assert!(
            faults("[[stage]]\nname = \"x\"\n[[stage]]\nname = \"x\"\n")
                .contains("two stages have the name `x`")
        );
        assert!(faults("stage = 1\n").contains("`stage` must be a list of tables"));
    }
}
