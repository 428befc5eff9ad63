//! Forward Kullback-Leibler divergence of next tokens; Hinton et al. 2015, §2 (arXiv:1503.02531), token by token.

use super::token_divergence::TokenDivergence;
use super::{Objective, ObjectiveConfig, ObjectiveKind, Pair, Unfit, one};
use distill_ops::Divergence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<ForwardKl>("forward_kl", true);

/// `KL(softmax(teacher / T) ‖ softmax(student / T))`, mean over the tokens that are learnt: the student covers all that the teacher may say.
///
/// Without the factor T² of soft labels, as in GKD and MiniLLM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "T": "temperature", "tau": "temperature", "decay": "position_decay" }))]
pub(super) struct ForwardKl {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Divides the logits of both; number above 0, default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(super) temperature: f64,
    /// What a token counts for against the one before it in its answer: below 1 the first tokens count most; number above 0, at most 1, default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub(super) position_decay: f64,
}

impl ObjectiveConfig for ForwardKl {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let loss = TokenDivergence {
            divergence: Divergence::ForwardKl,
            temperature: self.temperature,
            factor: 1.0,
            position_decay: self.position_decay,
        };
        loss.build(KIND.name, pair)
    }
}
