//! Cross entropy with the labels of the data set.

use super::{Level, Needs, Objective, ObjectiveConfig, ObjectiveKind, Outputs, Pair, Unfit, Unit, one};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line of the registry.
pub(super) const KIND: ObjectiveKind = ObjectiveKind::of::<HardLabels>("hard_labels", false);

/// Cross entropy with the labels of the data set; texts without a label take no part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HardLabels {
    /// Factor on the loss; number from 0, default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(super) weight: f64,
}

impl ObjectiveConfig for HardLabels {
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        match pair.level {
            Level::Sequence => Ok(Box::new(LabelCrossEntropy)),
            Level::Token | Level::NextToken => Err(Unfit::new(
                "`hard_labels` needs labelled texts, and this task has none",
                "use `masked_lm`, which learns from hidden tokens",
            )),
        }
    }
}

/// Sum over the rows of the logits of the cross entropy with their labels, in nats; −100 is skipped.
///
/// With smoothing ε the target is `(1 − ε) · one_hot + ε / classes` (Szegedy et al. 2016, §7, arXiv:1512.00567).
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelCrossEntropy;

impl Objective for LabelCrossEntropy {
    fn needs(&self) -> Needs {
        Needs { student_logits: true, ..Needs::default() }
    }

    fn unit(&self) -> Unit {
        Unit::Label
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        let targets = outputs.targets;
        outputs.student.cross_entropy(targets.labels, targets.label_smoothing).sum
    }
}
