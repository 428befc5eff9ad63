//! Correlation of labels and predictions.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Matthews correlation coefficient, −1 to 1, in its form for several classes.
///
/// With `s` rows, `c` right ones, `t_k` rows of class k and `p_k` predictions of it:
/// `MCC = (c s − Σ t_k p_k) / √((s² − Σ p_k²)(s² − Σ t_k²))`, 0 where that is undefined (all
/// labels or all predictions are one class). Gorodkin 2004, eq. 8
/// (doi:10.1016/j.compbiolchem.2004.09.006); scikit-learn's `matthews_corrcoef`.
pub fn matthews_correlation(matrix: &ConfusionMatrix) -> f64 {
    let (rows, correct) = (matrix.total() as f64, matrix.correct() as f64);
    let (mut both, mut labels, mut predictions) = (0.0, 0.0, 0.0);
    for class in 0..matrix.classes() {
        let (label, prediction) = (matrix.support(class) as f64, matrix.predicted(class) as f64);
        both += label * prediction;
        labels += label * label;
        predictions += prediction * prediction;
    }
    let spread = (rows * rows - predictions) * (rows * rows - labels);
    ratio(correct * rows - both, spread.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_classes_give_the_textbook_formula() {
        // TP 6, FN 2, FP 1, TN 3.
        let labels = [vec![1; 8], vec![0; 4]].concat();
        let predictions = [vec![1; 6], vec![0; 2], vec![1; 1], vec![0; 3]].concat();
        let matrix = ConfusionMatrix::new(&labels, &predictions, 2).unwrap();
        let expected = (6.0 * 3.0 - 1.0 * 2.0) / (7.0_f64 * 8.0 * 4.0 * 5.0).sqrt();
        assert!((matthews_correlation(&matrix) - expected).abs() < 1e-15);
    }

    #[test]
    fn perfect_is_one_reversed_minus_one_constant_zero() {
        let of = |predictions: &[u32]| {
            matthews_correlation(&ConfusionMatrix::new(&[0, 1, 0, 1], predictions, 2).unwrap())
        };
        assert_eq!(of(&[0, 1, 0, 1]), 1.0);
        assert_eq!(of(&[1, 0, 1, 0]), -1.0);
        assert_eq!(of(&[1, 1, 1, 1]), 0.0);
    }
}
