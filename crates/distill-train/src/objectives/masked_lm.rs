//! Cross entropy of hidden tokens; Devlin et al. 2018, §3.1 (arXiv:1810.04805).

use super::hard_labels::LabelCrossEntropy;
use super::{Level, Objective, ObjectiveConfig, ObjectiveKind, Pair, Unfit, one};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<MaskedLm>("masked_lm", false);

/// Cross entropy of the tokens that were hidden from the student, mean over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaskedLm {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
}

impl ObjectiveConfig for MaskedLm {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        match pair.level {
            Level::Token => Ok(Box::new(LabelCrossEntropy)),
            Level::Sequence | Level::NextToken => Err(Unfit::new(
                "`masked_lm` needs a masked language model, and this task trains a classifier",
                "use `hard_labels`, or the task `masked_language_modeling`",
            )),
        }
    }
}
