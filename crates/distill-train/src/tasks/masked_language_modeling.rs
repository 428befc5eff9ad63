//! `task.kind = "masked_language_modeling"`: hidden tokens are guessed; Devlin et al. 2018, §3.1 (arXiv:1810.04805).

use super::Task;
use distill_recipe::{Component, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hidden tokens of plain text are guessed from those around them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "probability": "mlm_probability", "mask_probability": "mlm_probability", "masking": "mlm_probability" }))]
pub struct MaskedLanguageModelingTask {
    /// Part of the tokens that are chosen (80% hidden, 10% replaced, 10% left), drawn anew in each epoch; fraction above 0, below 1, default 0.15.
    #[serde(default = "default_probability")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mlm_probability: f64,
}

pub(super) fn default_probability() -> f64 {
    0.15
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(MaskedLanguageModelingTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<MaskedLanguageModelingTask>(faults).map(Task::MaskedLanguageModeling)
}
