//! `[task]`: what the model is to learn.

use schemars::JsonSchema;

/// What is known of `[task]` before the component that `kind` names is asked.
#[derive(JsonSchema)]
#[schemars(extend("x-aliases" = { "type": "kind", "task": "kind", "name": "kind" }))]
#[expect(dead_code, reason = "only its schema is used: the component parses the table")]
pub(crate) struct TaskForm {
    /// Name of the task.
    kind: String,
}
