//! What a model is taught: one file a task, one line here.

mod classification;
mod language_modeling;
mod masked_language_modeling;
mod rationale;
mod seq2seq;

pub use classification::{ClassificationTask, MaskedLmBeside};
pub use language_modeling::LanguageModelingTask;
pub use masked_language_modeling::MaskedLanguageModelingTask;
pub use rationale::{AnswerKind, RationaleTask};
pub use seq2seq::{Generate, Seq2SeqTask};

use crate::objectives::Level;
use crate::report::MetricSet;
use distill_recipe::{Component, Fault};

/// A task as the recipe asks for it.
#[derive(Clone, Debug)]
pub enum Task {
    /// One label for each text.
    Classification(ClassificationTask),
    /// Hidden tokens are guessed.
    MaskedLanguageModeling(MaskedLanguageModelingTask),
    /// Texts are continued.
    LanguageModeling(LanguageModelingTask),
    /// Prompts are answered.
    Seq2Seq(Seq2SeqTask),
    /// Answers are written, and explained.
    Rationale(RationaleTask),
}

impl Task {
    /// What the logits belong to.
    pub fn level(&self) -> Level {
        match self {
            Self::Classification(_) => Level::Sequence,
            Self::MaskedLanguageModeling(_) => Level::Token,
            Self::LanguageModeling(_) | Self::Seq2Seq(_) | Self::Rationale(_) => Level::NextToken,
        }
    }

    /// Which metrics measure it.
    pub fn metrics(&self) -> MetricSet {
        match self {
            Self::Classification(_) => MetricSet::Classification,
            Self::MaskedLanguageModeling(_) | Self::LanguageModeling(_) => MetricSet::LanguageModel,
            Self::Seq2Seq(_) => MetricSet::Generation,
            Self::Rationale(_) => MetricSet::Rationale,
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
    /// Which metrics measure it.
    pub metrics: MetricSet,
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
        metrics: MetricSet::Classification,
        schema: classification::schema,
        parse: classification::parse,
    },
    TaskKind {
        name: "masked_language_modeling",
        level: Level::Token,
        metrics: MetricSet::LanguageModel,
        schema: masked_language_modeling::schema,
        parse: masked_language_modeling::parse,
    },
    TaskKind {
        name: "language_modeling",
        level: Level::NextToken,
        metrics: MetricSet::LanguageModel,
        schema: language_modeling::schema,
        parse: language_modeling::parse,
    },
    TaskKind {
        name: "seq2seq",
        level: Level::NextToken,
        metrics: MetricSet::Generation,
        schema: seq2seq::schema,
        parse: seq2seq::parse,
    },
    TaskKind {
        name: "rationale",
        level: Level::NextToken,
        metrics: MetricSet::Rationale,
        schema: rationale::schema,
        parse: rationale::parse,
    },
];
