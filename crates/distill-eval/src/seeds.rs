//! One metric over several seeds.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Mean and spread of a metric over runs that differ in their seed alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SeedSummary {
    /// Number of runs, at least 1.
    pub seeds: usize,
    /// Mean of the values.
    pub mean: f64,
    /// Sample standard deviation, `√(Σ (x − mean)² / (n − 1))`; none for a single run.
    pub standard_deviation: Option<f64>,
}

impl SeedSummary {
    /// Summarises one value a seed; none if there are no values.
    pub fn new(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_deviation = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Some(Self { seeds: values.len(), mean, standard_deviation })
    }
}

/// `0.9161 ± 0.0013 (3 seeds)`, with the precision asked for (4 places by default).
impl fmt::Display for SeedSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = formatter.precision().unwrap_or(4);
        write!(formatter, "{:.places$}", self.mean)?;
        match self.standard_deviation {
            Some(deviation) => write!(formatter, " ± {deviation:.places$} ({} seeds)", self.seeds),
            None => write!(formatter, " (1 seed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_one_less_than_the_seeds() {
        let summary = SeedSummary::new(&[91.67, 91.70, 91.46]).unwrap();
        assert!((summary.mean - 91.61).abs() < 1e-12);
        let expected = ((0.06_f64.powi(2) + 0.09_f64.powi(2) + 0.15_f64.powi(2)) / 2.0).sqrt();
        assert!((summary.standard_deviation.unwrap() - expected).abs() < 1e-12);
        assert_eq!(format!("{summary:.2}"), "91.61 ± 0.13 (3 seeds)");
    }

    #[test]
    fn one_seed_has_no_spread_and_none_no_mean() {
        let summary = SeedSummary::new(&[0.5]).unwrap();
        assert_eq!(summary.standard_deviation, None);
        assert_eq!(summary.to_string(), "0.5000 (1 seed)");
        assert_eq!(SeedSummary::new(&[]), None);
    }
}
