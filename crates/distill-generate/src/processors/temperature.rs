//! `temperature`: how bold draws are.

use super::{History, LogitsProcessor};
use crate::GenerationConfig;

/// Divides scores by the temperature: below 1 the probable tokens become more probable, above 1 less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Above 0.
    pub temperature: f32,
}

pub(super) fn build(config: &GenerationConfig) -> Option<Box<dyn LogitsProcessor>> {
    let temperature = config.temperature;
    (config.do_sample && temperature != 1.0)
        .then(|| Box::new(Temperature { temperature: temperature as f32 }) as _)
}

impl LogitsProcessor for Temperature {
    fn process(&self, _: History<'_>, scores: &mut [f32]) {
        for score in scores {
            *score /= self.temperature;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_divided() {
        let mut scores = [1.0, -2.0, f32::NEG_INFINITY];
        Temperature { temperature: 0.5 }.process(History { tokens: &[], prompt_length: 0 }, &mut scores);
        assert_eq!(scores, [2.0, -4.0, f32::NEG_INFINITY]);
    }
}
