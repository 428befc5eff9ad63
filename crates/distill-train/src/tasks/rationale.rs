//! `task.kind = "rationale"`: labels that are learnt with the steps that lead to them.

use super::{Generate, Task};
use distill_eval::answers::Compare;
use distill_recipe::{Component, Fault, Recipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model answers, and learns to explain its answers; Hsieh et al. 2023 (arXiv:2305.02301). What it reads and writes is in `[rationale]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "max_target_length": "max_new_tokens", "generation_max_length": "max_new_tokens", "beams": "num_beams",
    "predict_with_generate": "generate", "eval_rows": "validation_rows", "max_eval_samples": "validation_rows",
    "answer_type": "compare", "match": "compare", "examples": "rationale_rows"
}))]
pub struct RationaleTask {
    /// Longest text that is written, in tokens; at least 1, default 128.
    #[serde(default = "default_max_new_tokens")]
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// Beams of the search for an answer; at least 1, default 1: the most probable token each time.
    #[serde(default = "default_num_beams")]
    #[schemars(range(min = 1))]
    pub num_beams: usize,
    /// Which held-out answers are written: those of validation and test, of the test alone (`test`), or none (`never`); choices are weighed in any case; default `always`.
    #[serde(default)]
    pub generate: Generate,
    /// Answer this many validation rows at most, drawn with the seed; default all.
    #[schemars(range(min = 1))]
    pub validation_rows: Option<usize>,
    /// How answers are held against labels: as texts (`text`), as arithmetic by value (`expression`), or as one of the choices (`choice`); default `choice` where there are choices, else `text`.
    pub compare: Option<AnswerKind>,
    /// Write the rationales of this many test rows for the report; default 100.
    #[serde(default = "default_rationale_rows")]
    pub rationale_rows: usize,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[schemars(extend("x-aliases" = { "value": "expression", "number": "expression", "choices": "choice" }))]
pub enum AnswerKind {
    /// Words, but for case, articles and punctuation.
    Text,
    /// Arithmetic, by its value.
    Expression,
    /// One of the choices.
    Choice,
}

impl From<AnswerKind> for Compare {
    fn from(kind: AnswerKind) -> Self {
        match kind {
            AnswerKind::Text => Self::Text,
            AnswerKind::Expression => Self::Expression,
            AnswerKind::Choice => Self::Choice,
        }
    }
}

impl RationaleTask {
    /// Whether answers to validation rows of a recipe with this task are known: written, or weighed.
    pub(crate) fn answers_validation(&self, recipe: &Recipe) -> bool {
        let weighed = recipe.rationale.as_ref().is_some_and(|table| table.choices.is_some());
        weighed || self.generate == Generate::Always
    }

    /// How answers are held against labels.
    pub fn compare(&self, choices: bool) -> Compare {
        self.compare.map_or(if choices { Compare::Choice } else { Compare::Text }, Compare::from)
    }
}

fn default_max_new_tokens() -> usize {
    128
}

fn default_num_beams() -> usize {
    1
}

fn default_rationale_rows() -> usize {
    100
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(RationaleTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<RationaleTask>(faults).map(Task::Rationale)
}
