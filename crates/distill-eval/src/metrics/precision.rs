//! How far a class can be believed when it is predicted.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Fraction of the rows predicted as `class` that are of it, 0 to 1.
///
/// `precision = TP / (TP + FP)`, 0 if the class was never predicted; van Rijsbergen 1979,
/// *Information Retrieval*, ch. 7, and scikit-learn's `precision_score` with `zero_division=0`.
pub fn precision(matrix: &ConfusionMatrix, class: usize) -> f64 {
    ratio(matrix.true_positives(class) as f64, matrix.predicted(class) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_what_was_predicted() {
        let matrix = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 3).unwrap();
        assert_eq!(precision(&matrix, 0), 1.0);
        assert_eq!(precision(&matrix, 1), 2.0 / 3.0);
        assert_eq!(precision(&matrix, 2), 0.0, "never predicted");
    }
}
