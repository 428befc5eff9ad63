//! Every language-model metric of a data set.

use crate::metrics::perplexity::perplexity;
use serde::{Deserialize, Serialize};

/// What a language model scores on a data set; for masked models the masked tokens count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LanguageModelReport {
    /// Number of tokens that were predicted.
    pub tokens: u64,
    /// Mean cross entropy, nats a token; 0 if no token was predicted.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Fraction of tokens whose largest logit was right; 0 if no token was predicted.
    pub accuracy: f64,
    /// Bits for each byte (UTF-8) of the texts that were predicted, which can be compared between tokenizers; where the
    /// bytes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
}

impl LanguageModelReport {
    /// Turns sums over all batches into means, so that each token weighs the same however the
    /// batches were cut.
    ///
    /// `loss_sum` is in nats, over `tokens` tokens, `correct` of which were predicted rightly.
    pub fn from_sums(tokens: u64, loss_sum: f64, correct: u64) -> Self {
        let mean = |sum: f64| {
            if tokens == 0 { 0.0 } else { sum / tokens as f64 }
        };
        let loss = mean(loss_sum);
        let accuracy = mean(correct as f64);
        Self { tokens, loss, perplexity: perplexity(loss), accuracy, bits_per_byte: None }
    }

    /// The same for texts of `bytes` bytes.
    #[must_use]
    pub fn of_bytes(self, bytes: u64) -> Self {
        let bits = self.loss * self.tokens as f64 / std::f64::consts::LN_2;
        Self { bits_per_byte: (bytes > 0).then(|| bits / bytes as f64), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_the_tokens() {
        let report = LanguageModelReport::from_sums(4, 4.0 * 8_f64.ln(), 1);
        assert!((report.perplexity - 8.0).abs() < 1e-12);
        assert_eq!(report.accuracy, 0.25);
    }

    #[test]
    fn bits_are_told_by_the_byte() {
        let report = LanguageModelReport::from_sums(4, 4.0 * 8_f64.ln(), 1).of_bytes(6);
        assert!((report.bits_per_byte.unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(report.of_bytes(0).bits_per_byte, None);
    }

    #[test]
    fn nothing_to_predict_is_not_a_division_by_zero() {
        let report = LanguageModelReport::from_sums(0, 0.0, 0);
        assert_eq!((report.loss, report.perplexity, report.accuracy), (0.0, 1.0, 0.0));
    }
}
