//! What a teacher says of next tokens in short: the likeliest ones, and all others as one.

use distill_ops::LikeliestClasses;

/// The likeliest tokens of each place of a batch, and what all others have together, at some temperatures.
#[derive(Clone, Debug, PartialEq)]
pub struct LikeliestTokens {
    /// How many of each place.
    pub k: usize,
    /// Their numbers, `[places, k]`.
    pub classes: Vec<u32>,
    /// Logarithms of their probabilities at temperature 1, `[places, k]`, in nats.
    pub log_probs: Vec<f32>,
    /// The temperatures.
    pub temperatures: Vec<f64>,
    /// For each temperature `log Σ exp(log p / T)` of all others, `[places]`; −∞ where there are none.
    pub log_rests: Vec<Vec<f32>>,
}

impl LikeliestTokens {
    /// Of so many places, nothing said yet.
    pub(crate) fn nothing(k: usize, temperatures: &[f64], places: usize) -> Self {
        Self {
            k,
            classes: vec![0; places * k],
            log_probs: vec![0.0; places * k],
            temperatures: temperatures.to_vec(),
            log_rests: vec![vec![0.0; places]; temperatures.len()],
        }
    }

    /// The same as distributions at one of the temperatures.
    pub(crate) fn at(&self, temperature: f64) -> Option<LikeliestClasses> {
        let place = self.temperatures.iter().position(|known| *known == temperature)?;
        let (mut log_probs, mut log_rest) = (Vec::with_capacity(self.log_probs.len()), Vec::new());
        for (row, rest) in self.log_probs.chunks(self.k.max(1)).zip(&self.log_rests[place]) {
            let scaled: Vec<f64> = row.iter().map(|log_prob| f64::from(*log_prob) / temperature).collect();
            let all = scaled.iter().chain([&f64::from(*rest)]).map(|log| log.exp()).sum::<f64>().ln();
            log_probs.extend(scaled.iter().map(|log_prob| (log_prob - all) as f32));
            log_rest.push((f64::from(*rest) - all) as f32);
        }
        Some(LikeliestClasses { k: self.k, classes: self.classes.clone(), log_probs, log_rest })
    }
}
