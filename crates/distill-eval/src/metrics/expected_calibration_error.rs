//! How far confidence and accuracy lie apart.

use crate::predictions::{Predictions, argmax, log_sum_exp};
use std::num::NonZeroUsize;

/// Number of bins of Guo et al. 2017, and the usual one.
pub const DEFAULT_BINS: NonZeroUsize = NonZeroUsize::new(15).unwrap();

/// Mean distance of confidence and accuracy over bins of equal width, 0 to 1.
///
/// `ECE = Σ_m |B_m|/N · |acc(B_m) − conf(B_m)|`, where `B_m` holds the rows whose top
/// probability lies in `((m−1)/M, m/M]`; Guo et al. 2017, eq. 1 to 3 (arXiv:1706.04599), after
/// Naeini et al. 2015.
pub fn expected_calibration_error(predictions: &Predictions, bins: NonZeroUsize) -> f64 {
    let bins = bins.get();
    // Of each bin, the sum of (right − confidence): its size cancels against |B_m|/N.
    let mut gaps = vec![0.0; bins];
    for (row, &label) in predictions.logit_rows().zip(predictions.labels()) {
        let top = argmax(row);
        let confidence = (f64::from(row[top]) - log_sum_exp(row)).exp();
        let right = if top == label as usize { 1.0 } else { 0.0 };
        let bin = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        gaps[bin] += right - confidence;
    }
    gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / predictions.rows() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two-class logits with the probability `top` for class 0.
    fn logits(top: f64) -> [f32; 2] {
        [(top / (1.0 - top)).ln() as f32, 0.0]
    }

    fn ece(rows: &[(f64, u32)], bins: usize) -> f64 {
        let values = rows.iter().flat_map(|(top, _)| logits(*top)).collect();
        let labels = rows.iter().map(|(_, label)| *label).collect();
        let predictions = Predictions::new(values, labels, 2).unwrap();
        expected_calibration_error(&predictions, NonZeroUsize::new(bins).unwrap())
    }

    #[test]
    fn calibrated_rows_cost_nothing() {
        // Confidence 0.75, three of four right.
        assert!(ece(&[(0.75, 0), (0.75, 0), (0.75, 0), (0.75, 1)], 15) < 1e-7);
    }

    #[test]
    fn is_the_weighted_gap_of_the_bins() {
        // With 10 bins: (0.6, 0.7] holds two rows, one right: |1/2 − 0.65|; (0.9, 1] one, right: |1 − 0.95|.
        let expected = 2.0 / 3.0 * 0.15 + 1.0 / 3.0 * 0.05;
        assert!((ece(&[(0.65, 0), (0.65, 1), (0.95, 0)], 10) - expected).abs() < 1e-7);
    }

    #[test]
    fn bins_keep_opposite_gaps_apart() {
        // In one bin over- and under-confidence cancel in part; apart they add up.
        let rows = [(0.6, 0), (0.9, 1)];
        assert!((ece(&rows, 1) - 0.25).abs() < 1e-7);
        assert!((ece(&rows, 15) - (0.4 + 0.9) / 2.0).abs() < 1e-7);
    }

    #[test]
    fn full_confidence_falls_in_the_last_bin() {
        let predictions = Predictions::new(vec![1e4, -1e4], vec![1], 2).unwrap();
        assert_eq!(expected_calibration_error(&predictions, DEFAULT_BINS), 1.0);
    }
}
