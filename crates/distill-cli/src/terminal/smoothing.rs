//! Means that forget, for numbers that jump from step to step.

use distill_train::StepRecord;

/// Weight of the past at each new step: the last 20 steps or so count.
const DECAY: f64 = 0.95;

/// Decayed sums over steps; a ratio of two of them needs no correction for the first steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smoothed {
    steps: f64,
    loss: f64,
    seconds: f64,
    examples: f64,
    tokens: f64,
}

impl Smoothed {
    /// Counts one step in.
    pub fn add(&mut self, step: &StepRecord) {
        let mean = |sum: f64, value: f64| DECAY * sum + value;
        *self = Self {
            steps: mean(self.steps, 1.0),
            loss: mean(self.loss, step.loss),
            seconds: mean(self.seconds, step.seconds),
            examples: mean(self.examples, step.examples as f64),
            tokens: mean(self.tokens, step.tokens as f64),
        };
    }

    /// Loss in nats.
    pub fn loss(&self) -> f64 {
        ratio(self.loss, self.steps)
    }

    /// Examples a second.
    pub fn examples_per_second(&self) -> f64 {
        ratio(self.examples, self.seconds)
    }

    /// Tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        ratio(self.tokens, self.seconds)
    }

    /// Seconds that so many steps will take.
    pub fn seconds_for(&self, steps: u64) -> f64 {
        ratio(self.seconds, self.steps) * steps as f64
    }
}

fn ratio(above: f64, below: f64) -> f64 {
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64, seconds: f64) -> StepRecord {
        StepRecord {
            step: 1,
            epoch: 0.1,
            loss,
            grad_norm: 1.0,
            learning_rate: 1e-4,
            examples: 8,
            tokens: 80,
            seconds,
        }
    }

    #[test]
    fn the_first_step_is_its_own_mean() {
        let mut smoothed = Smoothed::default();
        assert_eq!(smoothed.loss(), 0.0);
        smoothed.add(&step(1.25, 0.5));
        assert_eq!(smoothed.loss(), 1.25);
        assert_eq!(smoothed.examples_per_second(), 16.0);
        assert_eq!(smoothed.tokens_per_second(), 160.0);
        assert_eq!(smoothed.seconds_for(4), 2.0);
    }

    #[test]
    fn the_past_fades() {
        let mut smoothed = Smoothed::default();
        smoothed.add(&step(9.0, 1.0));
        for _ in 0..200 {
            smoothed.add(&step(1.0, 1.0));
        }
        assert!((smoothed.loss() - 1.0).abs() < 1e-3, "{}", smoothed.loss());
    }
}
