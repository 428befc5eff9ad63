//! Agreement beyond chance.

use super::confusion_matrix::ConfusionMatrix;
use super::ratio;

/// Cohen's kappa of labels and predictions, at most 1.
///
/// `κ = (p_o − p_e) / (1 − p_e)`, with `p_o` the observed agreement and
/// `p_e = Σ t_k p_k / s²` that of chance; Cohen 1960 (doi:10.1177/001316446002000104);
/// scikit-learn's `cohen_kappa_score`. 0 where it is undefined (labels and predictions are all
/// the same class), where scikit-learn answers NaN, which JSON cannot hold.
pub fn cohen_kappa(matrix: &ConfusionMatrix) -> f64 {
    let rows = matrix.total() as f64;
    let chance: f64 = (0..matrix.classes())
        .map(|class| matrix.support(class) as f64 * matrix.predicted(class) as f64)
        .sum();
    // Both shares times s², so that equal counts cancel exactly.
    ratio(matrix.correct() as f64 * rows - chance, rows * rows - chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_textbook_value() {
        // 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5.
        let labels = [vec![1; 25], vec![0; 25]].concat();
        let predictions = [vec![1; 20], vec![0; 5], vec![1; 10], vec![0; 15]].concat();
        let matrix = ConfusionMatrix::new(&labels, &predictions, 2).unwrap();
        assert!((cohen_kappa(&matrix) - 0.4).abs() < 1e-15);
    }

    #[test]
    fn one_class_alone_is_zero() {
        assert_eq!(cohen_kappa(&ConfusionMatrix::new(&[1, 1], &[1, 1], 2).unwrap()), 0.0);
    }
}
