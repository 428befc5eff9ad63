//! What a run is made from, so that a resume with other settings, data or weights is refused.

use crate::checkpoint::hex;
use crate::prepare::Prepared;
use distill_ops::describe as describe_device;
use distill_recipe::Recipe;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Settings that may change between two parts of a run: the result does not depend on them.
const FREE: &[&str] = &[
    "recipe.name",
    "recipe.output_dir",
    // Told by content, or by the device that is found.
    "recipe.device",
    "recipe.model.path",
    "recipe.student.path",
    "recipe.teacher.path",
    "recipe.teacher.models",
    "recipe.tokenizer.path",
    "recipe.data.train",
    "recipe.data.validation",
    "recipe.data.test",
    "recipe.train.dtype",
    "recipe.train.threads",
    // The gradients are the same; those of ALBERT's shared layers up to the order of a sum.
    "recipe.train.gradient_checkpointing",
    "recipe.train.save_total_limit",
    "recipe.train.save_steps",
    "recipe.train.logging_steps",
    "recipe.data.cache_dir",
    "recipe.distill.transfer_data",
    "recipe.augment.path",
];

/// Everything that the result of a run depends on.
///
/// Data is told by content, not by name: files may be moved. The weights that a run starts from are hashed before its
/// first step.
pub fn fingerprint(prepared: &Prepared) -> Value {
    let files: Vec<Value> = prepared.files.iter().map(|file| json!([file.used_as, file.sha256])).collect();
    let teachers: Vec<Value> =
        prepared.teachers.iter().map(|teacher| json!([teacher.hash, teacher.weight])).collect();
    json!({
        "recipe": prepared.recipe.resolved(),
        "data": files,
        "labels": prepared.label_names(),
        "teachers": teachers,
        "tokenizer": prepared.tokenizer.hash(),
        "weights": weights_hash(prepared),
        "device": describe_device(&prepared.device),
        "dtype": prepared.precision.to_string(),
    })
}

/// The part of a [`fingerprint`] that needs nothing but the recipe.
pub fn recipe_fingerprint(recipe: &Recipe) -> Value {
    json!({ "recipe": recipe.resolved() })
}

/// SHA-256 of every parameter of the model as it starts.
pub(crate) fn weights_hash(prepared: &Prepared) -> String {
    let mut hasher = Sha256::new();
    prepared.loaded.model.visit(&mut |parameter, value| {
        hasher.update(parameter.name.as_bytes());
        hasher.update(value.into_data().as_bytes());
    });
    hex(&hasher.finalize())
}

/// A line for each setting that differs: its key, the value then and the value now.
pub fn differences(then: &Value, now: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", then, now, &mut lines);
    lines
}

fn compare(key: &str, then: &Value, now: &Value, lines: &mut Vec<String>) {
    if then == now || FREE.contains(&key) {
        return;
    }
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            let added = now.keys().filter(|name| !then.contains_key(*name));
            for name in then.keys().chain(added) {
                let missing = Value::Null;
                compare(
                    &join(name),
                    then.get(name).unwrap_or(&missing),
                    now.get(name).unwrap_or(&missing),
                    lines,
                );
            }
        }
        _ => lines.push(describe(key, then, now)),
    }
}

fn describe(key: &str, then: &Value, now: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "not set".to_owned(),
        value => format!("`{value}`"),
    };
    match key {
        "data" => "the data files have changed".to_owned(),
        "labels" => "the labels have changed".to_owned(),
        "teachers" => "the teachers have changed".to_owned(),
        "tokenizer" => "the tokenizer has changed".to_owned(),
        "weights" => "the weights that the run started from have changed".to_owned(),
        "dtype" => format!("`train.dtype` was {}, is {}", shown(then), shown(now)),
        key => {
            let key = key.strip_prefix("recipe.").unwrap_or(key);
            format!("`{key}` was {}, is {}", shown(then), shown(now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_setting_that_changed() {
        let then =
            json!({ "recipe": { "seed": 1, "train": { "epochs": 3.0, "threads": 1 } }, "weights": "a" });
        let now = json!({ "recipe": { "seed": 2, "train": { "epochs": 3.0, "threads": 2, "dropout": 0.1 } }, "weights": "a" });
        assert_eq!(
            differences(&then, &now),
            ["`seed` was `1`, is `2`", "`train.dropout` was not set, is `0.1`"]
        );
        assert!(differences(&now, &now).is_empty());
    }
}
