//! The two halves of learning step by step: the label's tokens and the rationale's; Hsieh et al. 2023, §3.2
//! (arXiv:2305.02301).

use super::{
    Level, LossConfig, Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one,
};
use burn::tensor::Tensor;
use distill_data::IGNORED_LABEL;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry, of labels.
pub(super) const LABEL: ObjectiveKind = ObjectiveKind::of::<LabelTokens>("label_tokens", false);

/// The line of the registry, of rationales.
pub(super) const RATIONALE: ObjectiveKind = ObjectiveKind::of::<RationaleTokens>("rationale_tokens", false);

/// Cross entropy of the tokens of labels, mean over them; those of rationales take no part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelTokens {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    weight: f64,
}

/// Cross entropy of the tokens of rationales, mean over them; rows without a rationale take no part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RationaleTokens {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    weight: f64,
}

/// `weight · L_label + (1 − weight) · L_rationale`, each a mean over the tokens of a step.
pub fn explained_losses(weight: f64) -> Vec<LossConfig> {
    vec![
        LossConfig::new(&LABEL, LabelTokens { weight }),
        LossConfig::new(&RATIONALE, RationaleTokens { weight: 1.0 - weight }),
    ]
}

impl ObjectiveConfig for LabelTokens {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        built(pair, "label_tokens", Half::Label)
    }
}

impl ObjectiveConfig for RationaleTokens {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        built(pair, "rationale_tokens", Half::Rationale)
    }
}

fn built(pair: &Pair<'_>, kind: &str, half: Half) -> Result<Box<dyn Objective>, Unfit> {
    match pair.level {
        Level::NextToken => Ok(Box::new(half)),
        Level::Token | Level::Sequence => Err(Unfit::new(
            format!("`{kind}` needs a model that writes texts, and this task trains none"),
            "use the task `rationale` with a decoder or an encoder-decoder",
        )),
    }
}

/// Cross entropy of the tokens of one of the two tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Label,
    Rationale,
}

impl Objective for Half {
    fn needs(&self) -> Needs {
        Needs { student_logits: true, ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        match self {
            Self::Label => Unit::LabelToken,
            Self::Rationale => Unit::RationaleToken,
        }
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let targets = outputs.targets;
        let mut labels = targets.labels.to_vec();
        for (place, label) in labels.iter_mut().enumerate() {
            let rationale = targets.rationale.get(place).copied().unwrap_or(false);
            if rationale != (*self == Self::Rationale) {
                *label = IGNORED_LABEL;
            }
        }
        if labels.iter().all(|&label| label == IGNORED_LABEL) {
            return Tensor::zeros([1], targets.device);
        }
        outputs.student.cross_entropy(&labels, targets.label_smoothing).sum
    }
}
