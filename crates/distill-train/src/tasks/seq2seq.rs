//! `task.kind = "seq2seq"`: a text that answers a prompt.

use super::Task;
use distill_recipe::{Component, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A target is written after a prompt; held-out prompts are answered, and the answers compared with their references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "max_target_length": "max_new_tokens", "generation_max_length": "max_new_tokens", "beams": "num_beams",
    "generation_num_beams": "num_beams", "predict_with_generate": "generate", "eval_rows": "validation_rows",
    "max_eval_samples": "validation_rows"
}))]
pub struct Seq2SeqTask {
    /// Longest answer, in tokens; at least 1, default 128.
    #[serde(default = "default_max_new_tokens")]
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// Beams of the search for an answer; at least 1, default 1: the most probable token each time.
    #[serde(default = "default_num_beams")]
    #[schemars(range(min = 1))]
    pub num_beams: usize,
    /// Which held-out prompts are answered: those of validation and test, of the test alone (`test`), or none (`never`); the loss is measured in any case; default `always`.
    #[serde(default)]
    pub generate: Generate,
    /// Answer this many validation prompts at most, drawn with the seed; default all.
    #[schemars(range(min = 1))]
    pub validation_rows: Option<usize>,
    /// Fill sequences of `max_length` with several examples, none of which sees another; decoders alone; default `true`.
    #[serde(default = "default_packing")]
    pub packing: bool,
}

/// Which held-out prompts are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Generate {
    /// Those of validation and test.
    #[default]
    Always,
    /// Those of the test.
    Test,
    /// None.
    Never,
}

fn default_max_new_tokens() -> usize {
    128
}

fn default_num_beams() -> usize {
    1
}

fn default_packing() -> bool {
    true
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(Seq2SeqTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<Seq2SeqTask>(faults).map(Task::Seq2Seq)
}
