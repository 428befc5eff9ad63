//! How often each class was taken for each other.

use crate::error::EvalError;
use crate::predictions::{Predictions, check_labels};

/// Counts of (true class, predicted class), laid out as scikit-learn's `confusion_matrix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    /// `counts[label][prediction]`: rows are true classes, columns predicted ones.
    counts: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Counts the pairs of true and predicted class.
    ///
    /// # Shapes
    /// - `labels`, `predictions`: `[rows]`, classes counted from 0
    ///
    /// # Errors
    /// [`EvalError`] if there is no row or no class, the lengths differ or a value has no class.
    pub fn new(labels: &[u32], predictions: &[u32], classes: usize) -> Result<Self, EvalError> {
        if classes == 0 {
            return Err(EvalError::NoClasses);
        }
        if labels.len() != predictions.len() {
            return Err(EvalError::RowCount { labels: labels.len(), predictions: predictions.len() });
        }
        if labels.is_empty() {
            return Err(EvalError::Empty);
        }
        check_labels(labels, classes)?;
        if let Some(row) = predictions.iter().position(|&class| class as usize >= classes) {
            return Err(EvalError::PredictionOutOfRange { row, prediction: predictions[row], classes });
        }
        Ok(Self::count(labels, predictions, classes))
    }

    /// Counts what a classifier's largest logits say.
    pub fn from_predictions(predictions: &Predictions) -> Self {
        Self::count(predictions.labels(), &predictions.top_classes(), predictions.classes())
    }

    fn count(labels: &[u32], predictions: &[u32], classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &prediction) in labels.iter().zip(predictions) {
            counts[label as usize][prediction as usize] += 1;
        }
        Self { counts }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// `counts()[label][prediction]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Number of rows.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Number of rows whose prediction is their label.
    pub fn correct(&self) -> u64 {
        (0..self.classes()).map(|class| self.true_positives(class)).sum()
    }

    /// Rows of `class` that were predicted as such.
    pub fn true_positives(&self, class: usize) -> u64 {
        self.counts[class][class]
    }

    /// Rows whose label is `class`.
    pub fn support(&self, class: usize) -> u64 {
        self.counts[class].iter().sum()
    }

    /// Rows whose prediction is `class`.
    pub fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_labels_and_columns_predictions() {
        let matrix = ConfusionMatrix::new(&[0, 0, 1, 2, 2], &[0, 1, 1, 0, 2], 3).unwrap();
        assert_eq!(matrix.counts(), [[1, 1, 0], [0, 1, 0], [1, 0, 1]]);
        assert_eq!((matrix.support(0), matrix.predicted(0), matrix.predicted(2)), (2, 2, 1));
        assert_eq!((matrix.correct(), matrix.total()), (3, 5));
    }

    #[test]
    fn refuses_pairs_that_do_not_match() {
        let new = ConfusionMatrix::new;
        assert_eq!(new(&[0], &[0, 1], 2), Err(EvalError::RowCount { labels: 1, predictions: 2 }));
        assert_eq!(new(&[], &[], 2), Err(EvalError::Empty));
        assert_eq!(new(&[], &[], 0), Err(EvalError::NoClasses));
        assert_eq!(
            new(&[0, 1], &[0, 2], 2),
            Err(EvalError::PredictionOutOfRange { row: 1, prediction: 2, classes: 2 })
        );
        assert!(matches!(new(&[3], &[0], 2), Err(EvalError::LabelOutOfRange { row: 0, label: 3, .. })));
    }
}
