//! Share of rows answered rightly.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Fraction of rows whose prediction is their label, 0 to 1; scikit-learn's `accuracy_score`.
///
/// `accuracy = Σ_k C_kk / Σ_jk C_jk`
pub fn accuracy(matrix: &ConfusionMatrix) -> f64 {
    ratio(matrix.correct() as f64, matrix.total() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_diagonal() {
        let matrix = ConfusionMatrix::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 2).unwrap();
        assert_eq!(accuracy(&matrix), 0.75);
    }
}
