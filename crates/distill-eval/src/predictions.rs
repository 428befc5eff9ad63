//! Logits and labels of a data set, checked at the door.

use crate::error::EvalError;

/// What a classifier answered on a data set, beside what it should have answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    logits: Vec<f32>,
    labels: Vec<u32>,
    classes: usize,
}

impl Predictions {
    /// Checks and takes logits and labels.
    ///
    /// # Shapes
    /// - `logits`: `[rows, classes]`, row-major, before softmax
    /// - `labels`: `[rows]`, classes counted from 0
    ///
    /// # Errors
    /// [`EvalError`] if there is no row or no class, the sizes differ, a label has no class or a
    /// logit is not finite.
    pub fn new(logits: Vec<f32>, labels: Vec<u32>, classes: usize) -> Result<Self, EvalError> {
        let rows = labels.len();
        if classes == 0 {
            return Err(EvalError::NoClasses);
        }
        if rows == 0 && logits.is_empty() {
            return Err(EvalError::Empty);
        }
        if rows.checked_mul(classes) != Some(logits.len()) {
            return Err(EvalError::LogitShape { found: logits.len(), rows, classes });
        }
        check_labels(&labels, classes)?;
        if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(EvalError::NotFinite { row: at / classes, class: at % classes, value: logits[at] });
        }
        Ok(Self { logits, labels, classes })
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Number of classes, at least 1.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The true class of every row.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Every row's logits, `[classes]` each.
    pub fn logit_rows(&self) -> impl Iterator<Item = &[f32]> {
        self.logits.chunks_exact(self.classes)
    }

    /// The class with the largest logit of every row; the first of equals, as `numpy.argmax`.
    pub fn top_classes(&self) -> Vec<u32> {
        self.logit_rows().map(|row| argmax(row) as u32).collect()
    }
}

/// Errors at the first label that is no class.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<(), EvalError> {
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(row) => Err(EvalError::LabelOutOfRange { row, label: labels[row], classes }),
        None => Ok(()),
    }
}

/// Index of the largest value, the first of equals.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let mut top = 0;
    for (class, logit) in row.iter().enumerate() {
        if *logit > row[top] {
            top = class;
        }
    }
    top
}

/// Natural logarithm of the sum of the exponentials, in f64.
///
/// The largest logit is taken out first, so that no exponential overflows:
/// `log Σ exp(z) = m + log Σ exp(z − m)`, `m = max z`.
pub(crate) fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = f64::from(row[argmax(row)]);
    largest + row.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

/// Probabilities of one row of logits, in f64: `exp(z − log Σ exp(z))`.
///
/// Empty for an empty row.
pub fn softmax(row: &[f32]) -> Vec<f64> {
    if row.is_empty() {
        return Vec::new();
    }
    let normalizer = log_sum_exp(row);
    row.iter().map(|&logit| (f64::from(logit) - normalizer).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_scored() {
        let new = Predictions::new;
        assert_eq!(new(vec![], vec![], 2), Err(EvalError::Empty));
        assert_eq!(new(vec![], vec![], 0), Err(EvalError::NoClasses));
        assert_eq!(
            new(vec![0.0; 5], vec![0, 1], 3),
            Err(EvalError::LogitShape { found: 5, rows: 2, classes: 3 })
        );
        assert_eq!(
            new(vec![0.0; 4], vec![], 2),
            Err(EvalError::LogitShape { found: 4, rows: 0, classes: 2 })
        );
        assert_eq!(
            new(vec![0.0; 4], vec![0, 2], 2),
            Err(EvalError::LabelOutOfRange { row: 1, label: 2, classes: 2 })
        );
        assert_eq!(
            new(vec![0.0, 0.0, 0.0, f32::INFINITY], vec![0, 1], 2),
            Err(EvalError::NotFinite { row: 1, class: 1, value: f32::INFINITY })
        );
        assert!(
            new(vec![0.0; usize::from(u8::MAX)], vec![0, 1], usize::MAX).is_err(),
            "the product overflows"
        );
    }

    #[test]
    fn errors_say_what_was_found_and_what_is_allowed() {
        let error = Predictions::new(vec![0.0; 4], vec![0, 7], 2).unwrap_err();
        assert_eq!(error.to_string(), "row 1 has label `7`, the model has `2` classes; labels are 0 to 1");
        let error = Predictions::new(vec![0.0; 5], vec![0, 1], 3).unwrap_err();
        assert_eq!(
            error.to_string(),
            "found `5` logits for `2` labels and `3` classes; a row-major `[rows, classes]` matrix has 2 x 3"
        );
    }

    #[test]
    fn the_first_of_equal_logits_wins() {
        let predictions = Predictions::new(vec![1.0, 1.0, 0.0, -3.0, -1.0, -1.0], vec![0, 0], 3).unwrap();
        assert_eq!(predictions.top_classes(), [0, 1]);
    }

    #[test]
    fn log_sum_exp_survives_huge_logits() {
        assert!((log_sum_exp(&[1e30, 1e30]) / 1e30_f32 as f64 - 1.0).abs() < 1e-15);
        assert!((log_sum_exp(&[-1e4, -1e4]) - (-1e4 + 2_f64.ln())).abs() < 1e-9);
        assert!((log_sum_exp(&[0.0; 4]) - 4_f64.ln()).abs() < 1e-15);
    }
}
