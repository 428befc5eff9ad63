//! `task.kind = "language_modeling"`: the next token of texts, answers or conversations.

use super::Task;
use distill_recipe::{Component, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each token is predicted from those before it: all of a text, or where data has prompts or conversations, the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "sample_packing": "packing", "pack": "packing", "window_stride": "stride" }))]
pub struct LanguageModelingTask {
    /// Fill sequences of `max_length` with several texts, none of which sees another; default `true`.
    #[serde(default = "default_packing")]
    pub packing: bool,
    /// Tokens between the windows in which held-out texts are measured: less than `max_length` gives tokens more to look back at, and costs more; default `max_length`, no overlap.
    #[schemars(range(min = 1))]
    pub stride: Option<usize>,
}

fn default_packing() -> bool {
    true
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(LanguageModelingTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<LanguageModelingTask>(faults).map(Task::LanguageModeling)
}
