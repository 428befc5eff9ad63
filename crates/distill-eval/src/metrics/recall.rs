//! How much of a class is found.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Fraction of the rows of `class` that were predicted as such, 0 to 1.
///
/// `recall = TP / (TP + FN)`, 0 if the class has no row; van Rijsbergen 1979,
/// *Information Retrieval*, ch. 7, and scikit-learn's `recall_score` with `zero_division=0`.
pub fn recall(matrix: &ConfusionMatrix, class: usize) -> f64 {
    ratio(matrix.true_positives(class) as f64, matrix.support(class) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_what_there_is() {
        let matrix = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 2], 3).unwrap();
        assert_eq!(recall(&matrix, 0), 0.5);
        assert_eq!(recall(&matrix, 2), 0.0, "no row of the class");
    }
}
