//! What a model is taught: one file a task, one line here.

mod classification;
mod masked_language_modeling;

pub use classification::ClassificationTask;
pub use masked_language_modeling::MaskedLanguageModelingTask;

use crate::objectives::Level;
use distill_recipe::{Component, Fault};

/// A task as the recipe asks for it.
#[derive(Clone, Debug)]
pub enum Task {
    /// One label for each text.
    Classification(ClassificationTask),
    /// Hidden tokens are guessed.
    MaskedLanguageModeling(MaskedLanguageModelingTask),
}

impl Task {
    /// What the logits belong to.
    pub fn level(&self) -> Level {
        match self {
            Self::Classification(_) => Level::Sequence,
            Self::MaskedLanguageModeling(_) => Level::Token,
        }
    }
}

/// A kind of task: its name in recipes, its table's schema and how the table is read.
#[derive(Clone, Copy, Debug)]
pub struct TaskKind {
    /// `task.kind` in recipes.
    pub name: &'static str,
    /// What its logits belong to.
    pub level: Level,
    /// Schema of its keys.
    pub schema: fn() -> schemars::Schema,
    /// Reads its table; faults go into the list.
    pub parse: fn(&Component, &mut Vec<Fault>) -> Option<Task>,
}

/// Every kind of task.
pub const TASKS: &[TaskKind] = &[
    TaskKind {
        name: "classification",
        level: Level::Sequence,
        schema: classification::schema,
        parse: classification::parse,
    },
    TaskKind {
        name: "masked_language_modeling",
        level: Level::Token,
        schema: masked_language_modeling::schema,
        parse: masked_language_modeling::parse,
    },
];
