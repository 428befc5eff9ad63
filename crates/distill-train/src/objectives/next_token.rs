//! Cross entropy of the next token; Bengio et al. 2003 (JMLR 3).

use super::hard_labels::LabelCrossEntropy;
use super::{Level, Objective, ObjectiveConfig, ObjectiveKind, Pair, Unfit, one};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<NextToken>("next_token", false);

/// Cross entropy of the tokens that are to be written, mean over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NextToken {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
}

impl ObjectiveConfig for NextToken {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        match pair.level {
            Level::NextToken => Ok(Box::new(LabelCrossEntropy)),
            Level::Token | Level::Sequence => Err(Unfit::new(
                "`next_token` needs a model that writes texts, and this task trains none",
                "use `hard_labels` or `masked_lm`, or the tasks `language_modeling` and `seq2seq`",
            )),
        }
    }
}
