//! How likely a model finds continuations that are given.

use crate::generate::check_finite;
use crate::scores::{highest, weight};
use crate::{GenerateError, NextToken};

/// Log-likelihood, in nats, of each continuation of each prompt: the sum over its tokens. A prompt is read once,
/// however many continuations it has; each must have at least one token, or its likelihood is 1.
///
/// # Errors
/// Prompts that are empty or leave no room, and a model that fails or gives logits that are not numbers.
pub fn log_likelihoods<M: NextToken>(
    model: &mut M,
    prompts: &[Vec<u32>],
    continuations: &[Vec<Vec<u32>>],
) -> Result<Vec<Vec<f64>>, GenerateError<M::Error>> {
    let longest = continuations.iter().flatten().map(Vec::len).max().unwrap_or(0);
    for (number, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt { prompt: number });
        }
        let found = model.written(prompt).len() + longest.saturating_sub(1);
        let allowed = model.max_length().unwrap_or(usize::MAX);
        if found > allowed {
            return Err(GenerateError::PromptTooLong { prompt: number, found, allowed });
        }
    }
    let mut sums: Vec<Vec<f64>> = continuations.iter().map(|them| vec![0.0; them.len()]).collect();
    if prompts.is_empty() || longest == 0 {
        return Ok(sums);
    }
    let mut logits = model.start(prompts, longest).map_err(GenerateError::Model)?;
    // A row of the model for every continuation that has a token left; at first one for every prompt.
    let all = continuations.iter().enumerate();
    let mut rows: Vec<(usize, usize, usize)> =
        all.flat_map(|(prompt, them)| (0..them.len()).map(move |one| (prompt, prompt, one))).collect();
    let mut model_rows = prompts.len();
    for place in 0..longest {
        let vocab = logits.len() / model_rows;
        let mut kept = Vec::new();
        for &(row, prompt, one) in &rows {
            let tokens = &continuations[prompt][one];
            let Some(&token) = tokens.get(place) else { continue };
            let scores = logits.get(row * vocab..(row + 1) * vocab).unwrap_or_default();
            check_finite(scores, prompt, model.written(&prompts[prompt]).len() + place)?;
            sums[prompt][one] += log_probability(scores, token);
            if place + 1 < tokens.len() {
                kept.push((row, prompt, one));
            }
        }
        if kept.is_empty() {
            break;
        }
        model_rows = kept.len();
        let numbers: Vec<usize> = kept.iter().map(|row| row.0).collect();
        model.select(&numbers).map_err(GenerateError::Model)?;
        let tokens: Vec<u32> =
            kept.iter().map(|&(_, prompt, one)| continuations[prompt][one][place]).collect();
        logits = model.next(&tokens).map_err(GenerateError::Model)?;
        rows = kept.into_iter().enumerate().map(|(row, (_, prompt, one))| (row, prompt, one)).collect();
    }
    Ok(sums)
}

/// `log softmax(scores)[token]`; −∞ for a token that the model does not have.
fn log_probability(scores: &[f32], token: u32) -> f64 {
    let highest = highest(scores);
    let sum: f64 = scores.iter().map(|&score| weight(score, highest)).sum();
    scores.get(token as usize).map_or(f64::NEG_INFINITY, |score| f64::from(score - highest) - sum.ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy_model::ToyModel;

    /// The likelihood of one continuation, read alone.
    fn alone(prompt: &[u32], continuation: &[u32]) -> f64 {
        let mut model = ToyModel::chaotic(11, 3.0);
        let mut logits = model.start(&[prompt.to_vec()], 9).unwrap();
        let mut sum = 0.0;
        for &token in continuation {
            sum += log_probability(&logits, token);
            logits = model.next(&[token]).unwrap();
        }
        sum
    }

    #[test]
    fn continuations_of_all_lengths_are_as_likely_as_alone() {
        let prompts = vec![vec![1, 2, 3], vec![4], vec![5, 6]];
        let continuations =
            vec![vec![vec![7, 8, 9], vec![1], vec![7, 2]], vec![vec![3, 3, 3, 3]], vec![vec![2], vec![10]]];
        let mut model = ToyModel::chaotic(11, 3.0);
        let found = log_likelihoods(&mut model, &prompts, &continuations).unwrap();
        for (number, (prompt, them)) in prompts.iter().zip(&continuations).enumerate() {
            for (one, continuation) in them.iter().enumerate() {
                let expected = alone(prompt, continuation);
                assert!((found[number][one] - expected).abs() < 1e-9, "{prompt:?} {continuation:?}");
            }
        }
        // Every prompt is read once, and rows end with their continuations.
        assert_eq!(model.calls, [3, 3, 2, 1]);
        assert!(log_likelihoods(&mut model, &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn prompts_that_cannot_be_read_are_named() {
        let mut model = ToyModel::chaotic(11, 3.0);
        let none = log_likelihoods(&mut model, &[vec![1], Vec::new()], &[vec![vec![1]], Vec::new()]);
        assert!(matches!(none, Err(GenerateError::EmptyPrompt { prompt: 1 })));
        model.max_length = Some(3);
        let long = log_likelihoods(&mut model, &[vec![1, 2]], &[vec![vec![1, 2, 3]]]);
        assert!(matches!(long, Err(GenerateError::PromptTooLong { prompt: 0, found: 4, allowed: 3 })));
        let infinite =
            log_likelihoods(&mut ToyModel::new(|_| vec![f32::NAN; 4]), &[vec![1]], &[vec![vec![1]]]);
        assert!(matches!(infinite, Err(GenerateError::NotFinite { .. })));
    }
}
