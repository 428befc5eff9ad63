//! Generalised Jensen-Shannon divergence of next tokens; Agarwal et al. 2023, eq. 1 (arXiv:2306.13649).

use super::token_divergence::TokenDivergence;
use super::{Objective, ObjectiveConfig, ObjectiveKind, Pair, Unfit, one};
use distill_ops::Divergence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<Jsd>("jsd", true);

/// `beta KL(P ‖ M) + (1 − beta) KL(Q ‖ M)`, P the teacher's softmax at temperature T, Q the student's, `M = beta P + (1 − beta) Q`; mean over the tokens that are learnt.
///
/// Without the factor T² of soft labels, as in GKD and MiniLLM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = { "T": "temperature", "tau": "temperature", "decay": "position_decay" }))]
pub(super) struct Jsd {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
    /// Divides the logits of both; number above 0, default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(super) temperature: f64,
    /// The teacher's part in the mixture, between `forward_kl` and `reverse_kl`; number above 0 and below 1, default 0.5.
    #[serde(default = "half")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub(super) beta: f64,
    /// What a token counts for against the one before it in its answer: below 1 the first tokens count most; number above 0, at most 1, default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub(super) position_decay: f64,
}

impl ObjectiveConfig for Jsd {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        let loss = TokenDivergence {
            divergence: Divergence::JensenShannon { beta: self.beta },
            temperature: self.temperature,
            factor: 1.0,
            position_decay: self.position_decay,
        };
        loss.build(KIND.name, pair)
    }
}

fn half() -> f64 {
    0.5
}
