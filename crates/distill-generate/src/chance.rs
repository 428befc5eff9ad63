//! Draws of tokens.
//!
//! Each draw has a ChaCha8 stream of its own, keyed by seed, row and step: nothing that happens in
//! another row, and no token drawn before, moves it.

use crate::scores::{highest, weight};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Tells this purpose from others that are keyed by the same seed.
const PURPOSE: u64 = 0x7465_7874;

/// A number from 0 up to 1, 1 excluded: a multiple of 2⁻⁵³.
fn fraction(seed: u64, row: u64, step: u64) -> f64 {
    let mut key = [0; 32];
    for (slot, part) in key.chunks_exact_mut(8).zip([seed, PURPOSE, row, step]) {
        slot.copy_from_slice(&part.to_le_bytes());
    }
    (ChaCha8Rng::from_seed(key).next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// Draws a token with the probabilities `softmax(scores)`; `None` if all are forbidden.
pub(crate) fn draw(scores: &[f32], seed: u64, row: u64, step: u64) -> Option<u32> {
    let highest = highest(scores);
    if highest == f32::NEG_INFINITY {
        return None;
    }
    let total: f64 = scores.iter().map(|&score| weight(score, highest)).sum();
    let target = fraction(seed, row, step) * total;
    let mut sum = 0.0;
    let mut drawn = None;
    for (token, &score) in (0_u32..).zip(scores) {
        let weight = weight(score, highest);
        if weight > 0.0 {
            drawn = Some(token);
            sum += weight;
            if sum > target {
                break;
            }
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_probable() {
        let probabilities = [0.5_f32, 0.0, 0.3, 0.15, 0.05];
        let scores = probabilities.map(f32::ln);
        let draws = 20_000;
        let mut counts = [0_u32; 5];
        for row in 0..draws / 100 {
            for step in 0..100 {
                counts[draw(&scores, 9, row, step).unwrap() as usize] += 1;
            }
        }
        assert_eq!(counts[1], 0);
        for (probability, count) in probabilities.into_iter().zip(counts) {
            // Four standard deviations.
            let allowed = 4.0 * (probability * (1.0 - probability) / draws as f32).sqrt();
            let found = count as f32 / draws as f32;
            assert!((found - probability).abs() <= allowed, "{found} for {probability}");
        }
    }

    #[test]
    fn seed_row_and_step_each_change_the_draw() {
        let draws =
            [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)].map(|(seed, row, step)| fraction(seed, row, step));
        for (number, draw) in draws.iter().enumerate() {
            assert!(!draws[..number].contains(draw));
        }
        assert_eq!(draws[0], fraction(1, 2, 3));
    }

    #[test]
    fn forbidden_tokens_are_never_drawn() {
        assert_eq!(draw(&[f32::NEG_INFINITY; 4], 0, 0, 0), None);
        for step in 0..100 {
            assert_eq!(draw(&[f32::NEG_INFINITY, -1e30, f32::NEG_INFINITY], 0, 0, step), Some(1));
        }
    }
}
