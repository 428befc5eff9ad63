//! One number out of one a class: macro, micro and weighted averages.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Mean over the classes, each counted alike.
///
/// Classes that neither occur nor are predicted do not count, as in scikit-learn, which knows
/// only the classes it sees: a split without a rare class is not punished for it.
/// Sokolova and Lapalme 2009, table 3 (doi:10.1016/j.ipm.2009.03.002).
pub fn macro_average(matrix: &ConfusionMatrix, of_class: fn(&ConfusionMatrix, usize) -> f64) -> f64 {
    let seen = |&class: &usize| matrix.support(class) + matrix.predicted(class) > 0;
    let values: Vec<f64> = (0..matrix.classes()).filter(seen).map(|class| of_class(matrix, class)).collect();
    ratio(values.iter().sum(), values.len() as f64)
}

/// Mean over the classes, each weighted by the number of its rows; scikit-learn's
/// `average="weighted"`.
pub fn weighted_average(matrix: &ConfusionMatrix, of_class: fn(&ConfusionMatrix, usize) -> f64) -> f64 {
    let sum = (0..matrix.classes()).map(|class| matrix.support(class) as f64 * of_class(matrix, class)).sum();
    ratio(sum, matrix.total() as f64)
}

/// Precision, recall and F1 over the pooled decisions of all classes.
///
/// Every row is one true positive, or one false positive of a class and one false negative of
/// another, so the three are the same number, which is also the accuracy. They are reported
/// under their names because tables list them. Sokolova and Lapalme 2009, table 3.
pub fn micro_average(matrix: &ConfusionMatrix) -> f64 {
    ratio(matrix.correct() as f64, matrix.total() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::{f1::f1, recall::recall};
    use super::*;

    #[test]
    fn macro_leaves_out_classes_that_never_appear() {
        let two = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 2).unwrap();
        let of_five = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 5).unwrap();
        assert_eq!(macro_average(&two, f1), macro_average(&of_five, f1));
        assert_eq!(macro_average(&two, recall), 0.75);
    }

    #[test]
    fn macro_counts_a_class_that_is_only_predicted() {
        let matrix = ConfusionMatrix::new(&[0, 0], &[0, 1], 2).unwrap();
        assert_eq!(macro_average(&matrix, recall), 0.25, "recall 1/2 of class 0, 0 of class 1");
    }

    #[test]
    fn weighted_recall_is_the_accuracy() {
        let matrix = ConfusionMatrix::new(&[0, 0, 0, 1, 2], &[0, 0, 1, 1, 0], 3).unwrap();
        assert!((weighted_average(&matrix, recall) - 0.6).abs() < 1e-15);
        assert_eq!(micro_average(&matrix), 0.6);
    }
}
