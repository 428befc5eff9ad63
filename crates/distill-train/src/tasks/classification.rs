//! `task.kind = "classification"`: one label for each text.

use super::Task;
use distill_recipe::{Component, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One label for each text, from a fixed set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassificationTask {
    /// Names of the labels, in the order of their ids. By default those found in the training data, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub labels: Option<Vec<String>>,
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(ClassificationTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<ClassificationTask>(faults).map(Task::Classification)
}
