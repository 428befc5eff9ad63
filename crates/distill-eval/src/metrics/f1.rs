//! Precision and recall in one number.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Harmonic mean of precision and recall of `class`, 0 to 1.
///
/// `F1 = 2 TP / (2 TP + FP + FN)`, 0 if the class neither occurs nor is predicted;
/// van Rijsbergen 1979, *Information Retrieval*, ch. 7, and scikit-learn's `f1_score` with
/// `zero_division=0`.
pub fn f1(matrix: &ConfusionMatrix, class: usize) -> f64 {
    // TP + FP is what was predicted, TP + FN what there is.
    let denominator = matrix.predicted(class) + matrix.support(class);
    ratio(2.0 * matrix.true_positives(class) as f64, denominator as f64)
}

#[cfg(test)]
mod tests {
    use super::super::{precision::precision, recall::recall};
    use super::*;

    #[test]
    fn is_the_harmonic_mean() {
        let matrix = ConfusionMatrix::new(&[0, 0, 0, 1, 1], &[0, 0, 1, 0, 1], 3).unwrap();
        for class in [0, 1] {
            let (p, r) = (precision(&matrix, class), recall(&matrix, class));
            assert!((f1(&matrix, class) - 2.0 * p * r / (p + r)).abs() < 1e-15);
        }
        assert_eq!(f1(&matrix, 2), 0.0);
    }
}
