//! Tokens and what they cost.
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use crate::error::RationaleError;

/// Tokens of one reply or of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens that were written.
    pub output_tokens: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

/// About how many tokens a text has: one for four bytes of UTF-8, as English has with most
/// vocabularies.
pub fn estimated_tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

/// What a teacher's tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    input: f64,
    output: f64,
}

impl Prices {
    /// Prices of a million tokens of prompts and of replies, in any currency.
    ///
    /// # Errors
    /// [`RationaleError::Range`] for a price that is negative or no number.
    pub fn new(input: f64, output: f64) -> Result<Self, RationaleError> {
        for (name, price) in [("price-input", input), ("price-output", output)] {
            if !(price.is_finite() && price >= 0.0) {
                let found = price.to_string();
                return Err(RationaleError::Range { name, allowed: "a number from 0 up", found });
            }
        }
        Ok(Self { input, output })
    }

    /// What `usage` costs.
    pub fn cost(&self, usage: Usage) -> f64 {
        (usage.input_tokens as f64 * self.input + usage.output_tokens as f64 * self.output) / 1e6
    }
}

/// What is expected before the first row is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Rows that are to be asked.
    pub rows: usize,
    /// Rows whose replies are kept from before.
    pub kept: usize,
    /// About how many tokens the prompts of those to be asked have ([`estimated_tokens`]), and how many
    /// their replies have at most.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_of_a_million_tokens() {
        let usage = Usage { input_tokens: 2_000_000, output_tokens: 500_000 };
        assert_eq!(Prices::new(0.15, 0.6).unwrap().cost(usage), 0.3 + 0.3);
        let sum: Usage = [usage, Usage { input_tokens: 1, output_tokens: 2 }].into_iter().sum();
        assert_eq!((sum.input_tokens, sum.output_tokens), (2_000_001, 500_002));
    }

    #[test]
    fn prices_are_numbers_from_0_up() {
        let error = Prices::new(1.0, -0.5).unwrap_err();
        assert_eq!(error.to_string(), "`price-output` must be a number from 0 up, found `-0.5`");
        assert!(Prices::new(f64::NAN, 1.0).is_err());
        assert!(Prices::new(f64::INFINITY, 1.0).is_err());
    }

    #[test]
    fn four_bytes_are_a_token() {
        assert_eq!([0, 1, 1, 2], ["", "a", "abcd", "abcde"].map(estimated_tokens));
    }
}
