//! How surprising the labels are to the model.

use crate::predictions::{Predictions, log_sum_exp};

/// Mean cross entropy of the labels under the softmax of the logits, in nats a row.
///
/// `loss = −1/N · Σ log softmax(z)_y`; Goodfellow et al. 2016, *Deep Learning*, §6.2.2.3;
/// PyTorch's `cross_entropy`, scikit-learn's `log_loss`. In f64, whatever the model computed in.
pub fn cross_entropy(predictions: &Predictions) -> f64 {
    let sum: f64 = predictions
        .logit_rows()
        .zip(predictions.labels())
        .map(|(row, &label)| log_sum_exp(row) - f64::from(row[label as usize]))
        .sum();
    sum / predictions.rows() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_classes() {
        let predictions = Predictions::new(vec![3.5; 8], vec![0, 3], 4).unwrap();
        assert!((cross_entropy(&predictions) - 4_f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn is_the_mean_of_the_negative_log_probabilities() {
        // softmax([ln 3, 0]) = [3/4, 1/4]
        let three = 3_f32.ln();
        let predictions = Predictions::new(vec![three, 0.0, three, 0.0], vec![0, 1], 2).unwrap();
        let expected = -((0.75_f64).ln() + (0.25_f64).ln()) / 2.0;
        assert!((cross_entropy(&predictions) - expected).abs() < 1e-7);
    }

    #[test]
    fn stays_finite_when_the_model_is_sure_and_wrong() {
        let predictions = Predictions::new(vec![1e6, -1e6], vec![1], 2).unwrap();
        assert_eq!(cross_entropy(&predictions), 2e6);
    }
}
