//! `task.kind = "classification"`: one label for each text.

use super::Task;
use super::masked_language_modeling::default_probability;
use distill_recipe::{Column, Component, Fault, OneOrMany};
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
    /// Masked language modelling beside the labels, in the same step: `{ text = ["question", "rationale"], weight = 1.0 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_lm: Option<MaskedLmBeside>,
}

/// Texts of the training rows whose hidden tokens are guessed beside the labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskedLmBeside {
    /// Column or columns of the texts, joined by a space, such as the question and a rationale: names, or numbers from 0.
    #[schemars(length(min = 1))]
    pub text: OneOrMany<Column>,
    /// Factor on the loss, beside that of the labels; number above 0, default 1.
    #[serde(default = "default_weight")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub weight: f64,
    /// Part of the tokens that are chosen (80% hidden, 10% replaced, 10% left), drawn anew in each epoch; fraction above 0, below 1, default 0.15.
    #[serde(default = "default_probability")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mlm_probability: f64,
}

impl MaskedLmBeside {
    /// In words.
    pub fn describe(&self) -> String {
        let columns: Vec<String> = self.text.iter().map(|column| format!("`{column}`")).collect();
        format!(
            "hidden tokens of {} are guessed beside the labels, weight {}",
            columns.join(", "),
            self.weight
        )
    }
}

fn default_weight() -> f64 {
    1.0
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(ClassificationTask)
}

pub(super) fn parse(component: &Component, faults: &mut Vec<Fault>) -> Option<Task> {
    component.parse::<ClassificationTask>(faults).map(Task::Classification)
}
