//! `[teacher]`: the model, or models, that the student learns from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::Column;
use super::one_or_many::OneOrMany;
use super::parse::Table;
use crate::fault::Fault;
use crate::node::Node;

/// What `[teacher]` says: exactly one of `path`, `models` and `self_distillation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "model": "path", "model_name_or_path": "path", "teacher_model": "path", "name": "path",
    "checkpoint": "path", "hub_id": "path", "ensemble": "models", "teachers": "models",
    "born_again": "self_distillation", "self": "self_distillation", "id2label": "labels",
    "text_column": "text", "columns": "text", "privileged": "text"
}))]
pub struct TeacherTable {
    /// A folder with a trained model in the Hugging Face layout, or a hub id: `org/name` or `org/name@revision`.
    #[schemars(length(min = 1))]
    pub path: Option<String>,
    /// Several teachers, `{ path = "...", weight = 1.0 }` each: their probabilities are averaged by weight.
    #[schemars(length(min = 1))]
    pub models: Option<Vec<TeacherModel>>,
    /// `true`: the teacher is the student as it starts; default `false`.
    #[serde(default)]
    pub self_distillation: bool,
    /// Column or columns that the teachers read in place of `text` in `[data]`, joined by a space, such as a rationale that the student never sees: names, or numbers from 0; for teachers of whole texts.
    #[schemars(length(min = 1))]
    pub text: Option<OneOrMany<Column>>,
    /// Names of the teacher's labels in the order of its logits, where its `config.json` does not name them.
    #[schemars(length(min = 2))]
    pub labels: Option<Vec<String>>,
}

/// One teacher of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "model": "path", "model_name_or_path": "path" }))]
pub struct TeacherModel {
    /// A folder, or a hub id.
    #[schemars(length(min = 1))]
    pub path: String,
    /// Its part in the average, against the sum of all weights; number above 0, default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Table for TeacherTable {
    const KEY: &'static str = "teacher";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        let given = ["path", "models", "self_distillation"].map(|key| written.get(key));
        let mut given =
            given.into_iter().flatten().filter(|node| node.value != crate::node::Value::Boolean(false));
        match (given.next(), given.next()) {
            (Some(first), Some(second)) => faults.push(
                Fault::new(
                    "`[teacher]` must have one of `path`, `models` and `self_distillation`",
                    first.key_label(),
                )
                .with_label(second.key_label())
                .with_help("keep one of them"),
            ),
            (None, _) => faults.push(
                Fault::new(
                    "`[teacher]` must have `path`, `models` or `self_distillation = true`",
                    written.key_label(),
                )
                .with_help("`path` is a folder or hub id of a trained model"),
            ),
            _ => {}
        }
    }
}

impl TeacherTable {
    /// The teachers with their weights; none where the student teaches itself.
    pub fn members(&self) -> Vec<TeacherModel> {
        match (&self.path, &self.models) {
            (Some(path), _) => vec![TeacherModel { path: path.clone(), weight: 1.0 }],
            (None, models) => models.clone().unwrap_or_default(),
        }
    }
}
