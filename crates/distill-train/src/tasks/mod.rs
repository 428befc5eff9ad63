//! What a model is taught: one file a task, one line here.

mod classification;

pub use classification::ClassificationTask;

use crate::objectives::{Objective, hard_labels};
use distill_recipe::{Component, Fault};

/// A task as the recipe asks for it.
#[derive(Clone, Debug)]
pub enum Task {
    /// One label for each text.
    Classification(ClassificationTask),
}

/// A kind of task: its name in recipes, its table's schema and how the table is read.
#[derive(Clone, Copy, Debug)]
pub struct TaskKind {
    /// `task.kind` in recipes.
    pub name: &'static str,
    /// Schema of its keys.
    pub schema: fn() -> schemars::Schema,
    /// What it minimises unless the recipe says otherwise.
    pub objective: Objective,
    /// Reads its table; faults go into the list.
    pub parse: fn(&Component, &mut Vec<Fault>) -> Option<Task>,
}

/// Every kind of task.
pub const TASKS: &[TaskKind] = &[TaskKind {
    name: "classification",
    schema: classification::schema,
    objective: hard_labels::OBJECTIVE,
    parse: classification::parse,
}];
