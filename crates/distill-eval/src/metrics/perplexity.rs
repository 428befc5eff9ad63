//! Between how many tokens a language model hesitates.

/// Perplexity of a mean cross entropy in nats a token, at least 1 for a proper loss.
///
/// `perplexity = exp(loss)`; Jelinek et al. 1977 (doi:10.1121/1.2016299), as Hugging Face
/// computes it. Infinite beyond about 709 nats.
pub fn perplexity(loss: f64) -> f64 {
    loss.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_guess_costs_its_number_of_choices() {
        assert!((perplexity(50_f64.ln()) - 50.0).abs() < 1e-12);
        assert_eq!(perplexity(0.0), 1.0);
    }
}
