//! Choices and sums over the scores of a row.

/// The token with the highest score, the first of equal ones; `None` if all are forbidden.
pub(crate) fn most_probable(scores: &[f32]) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (token, &score) in (0_u32..).zip(scores) {
        if score > best.0 {
            best = (score, Some(token));
        }
    }
    best.1
}

/// The highest score; −∞ if all are forbidden.
pub(crate) fn highest(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `exp(score − highest)`: the probability but for a factor that all tokens share. Summed in f64, or the
/// tokens at the end of a large vocabulary would count too little.
pub(crate) fn weight(score: f32, highest: f32) -> f64 {
    // After a processor that cuts, most tokens are forbidden; the comparison spares their powers.
    if score == f32::NEG_INFINITY { 0.0 } else { f64::from(score - highest).exp() }
}

/// Turns logits into log-probabilities, in nats.
pub(crate) fn log_softmax(logits: &mut [f32]) {
    let highest = highest(logits);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - highest).exp())).sum();
    let log_sum = sum.ln() as f32;
    for logit in logits {
        *logit = *logit - highest - log_sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_tokens_is_taken() {
        assert_eq!(most_probable(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(most_probable(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(most_probable(&[f32::NEG_INFINITY, f32::MIN]), Some(1));
    }

    #[test]
    fn probabilities_sum_to_one() {
        let mut logits = [1000.0, 1000.0, f32::NEG_INFINITY, 1000.0, 1000.0];
        log_softmax(&mut logits);
        assert!((logits[0] - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(logits[2], f32::NEG_INFINITY);
    }
}
