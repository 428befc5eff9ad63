//! Every classification metric of a data set.

use crate::error::EvalError;
use crate::metrics::accuracy::accuracy;
use crate::metrics::averaging::{macro_average, micro_average, weighted_average};
use crate::metrics::cohen_kappa::cohen_kappa;
use crate::metrics::confusion_matrix::ConfusionMatrix;
use crate::metrics::cross_entropy::cross_entropy;
use crate::metrics::expected_calibration_error::{DEFAULT_BINS, expected_calibration_error};
use crate::metrics::f1::f1;
use crate::metrics::matthews_correlation::matthews_correlation;
use crate::metrics::precision::precision;
use crate::metrics::recall::recall;
use crate::predictions::Predictions;
use serde::{Deserialize, Serialize};

/// What a classifier scores on a data set. All values but `rows`, `loss` and the counts are
/// fractions or coefficients, and all are finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    /// Number of rows.
    pub rows: u64,
    /// Mean cross entropy, nats a row.
    pub loss: f64,
    /// Fraction of right rows.
    pub accuracy: f64,
    /// Precision, mean over the classes that occur or are predicted.
    pub macro_precision: f64,
    /// Recall, mean over the classes that occur or are predicted.
    pub macro_recall: f64,
    /// F1, mean over the classes that occur or are predicted.
    pub macro_f1: f64,
    /// Precision over pooled decisions; the accuracy.
    pub micro_precision: f64,
    /// Recall over pooled decisions; the accuracy.
    pub micro_recall: f64,
    /// F1 over pooled decisions; the accuracy.
    pub micro_f1: f64,
    /// Precision, weighted by the rows of each class.
    pub weighted_precision: f64,
    /// Recall, weighted by the rows of each class; the accuracy.
    pub weighted_recall: f64,
    /// F1, weighted by the rows of each class.
    pub weighted_f1: f64,
    /// Matthews correlation coefficient.
    pub mcc: f64,
    /// Cohen's kappa.
    pub kappa: f64,
    /// Expected calibration error, 15 bins of equal width.
    pub ece: f64,
    /// Each class, in the order of the model's outputs.
    pub per_class: Vec<ClassReport>,
    /// `confusion_matrix[label][prediction]`, in the order of `per_class`.
    pub confusion_matrix: Vec<Vec<u64>>,
}

/// What a classifier scores on one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Name of the class.
    pub label: String,
    /// Fraction of the rows predicted as the class that are of it.
    pub precision: f64,
    /// Fraction of the rows of the class that were found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Number of rows of the class.
    pub support: u64,
}

impl ClassificationReport {
    /// Scores a data set; `names` gives each class its name, in the order of the logits.
    ///
    /// # Errors
    /// [`EvalError::NameCount`] if there is not one name a class.
    pub fn from_predictions(predictions: &Predictions, names: &[String]) -> Result<Self, EvalError> {
        if names.len() != predictions.classes() {
            return Err(EvalError::NameCount { names: names.len(), classes: predictions.classes() });
        }
        let matrix = ConfusionMatrix::from_predictions(predictions);
        let micro = micro_average(&matrix);
        Ok(Self {
            rows: matrix.total(),
            loss: cross_entropy(predictions),
            accuracy: accuracy(&matrix),
            macro_precision: macro_average(&matrix, precision),
            macro_recall: macro_average(&matrix, recall),
            macro_f1: macro_average(&matrix, f1),
            micro_precision: micro,
            micro_recall: micro,
            micro_f1: micro,
            weighted_precision: weighted_average(&matrix, precision),
            weighted_recall: weighted_average(&matrix, recall),
            weighted_f1: weighted_average(&matrix, f1),
            mcc: matthews_correlation(&matrix),
            kappa: cohen_kappa(&matrix),
            ece: expected_calibration_error(predictions, DEFAULT_BINS),
            per_class: names
                .iter()
                .enumerate()
                .map(|(class, name)| ClassReport {
                    label: name.clone(),
                    precision: precision(&matrix, class),
                    recall: recall(&matrix, class),
                    f1: f1(&matrix, class),
                    support: matrix.support(class),
                })
                .collect(),
            confusion_matrix: matrix.counts().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn survives_a_round_trip_through_json() {
        let predictions = Predictions::new(vec![0.3, -1.2, 2.5, 0.1, 0.2, 0.7], vec![0, 1], 3).unwrap();
        let report = ClassificationReport::from_predictions(&predictions, &names(3)).unwrap();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ClassificationReport>(&json).unwrap(), report);
        assert!(json.contains("\"macro_f1\":") && json.contains("\"label\":\"class 2\""));
    }

    #[test]
    fn asks_for_one_name_a_class() {
        let predictions = Predictions::new(vec![0.0, 1.0], vec![0], 2).unwrap();
        let error = ClassificationReport::from_predictions(&predictions, &names(3)).unwrap_err();
        assert_eq!(error.to_string(), "found `3` label names for `2` classes; give one name a class");
    }

    #[test]
    fn one_row_of_one_class_is_finite_throughout() {
        let predictions = Predictions::new(vec![4.0], vec![0], 1).unwrap();
        let report = ClassificationReport::from_predictions(&predictions, &names(1)).unwrap();
        assert_eq!((report.accuracy, report.loss, report.macro_f1), (1.0, 0.0, 1.0));
        assert_eq!((report.mcc, report.kappa, report.ece), (0.0, 0.0, 0.0));
    }
}
