//! The output of the embeddings; Jiao et al. 2020, eq. 9 (arXiv:1909.10351).

use super::hidden_states::States;
use super::{Objective, ObjectiveConfig, ObjectiveKind, Pair, Unfit, one};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<Embeddings>("embeddings", true);

/// Mean squared error of what the embeddings hand to the first layer; a learned projection where widths differ, the same
/// as that of `hidden_states`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Embeddings {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
}

impl ObjectiveConfig for Embeddings {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let teacher = pair.inner_teacher(KIND.name)?;
        let projection = teacher.hidden_size() != pair.student.hidden_size();
        Ok(Box::new(States { states: vec![(0, 0)], projection }))
    }
}
