//! Learning-rate schedules, with the formulas of Hugging Face's `optimization.py`.

use distill_recipe::LrSchedulerType;

/// Learning rate of the last step of `polynomial`, where Hugging Face's default stops (`lr_end`).
const POLYNOMIAL_END: f64 = 1e-7;
/// Time scale of `inverse_sqrt` without warm-up, as in Hugging Face.
const INVERSE_SQRT_TIMESCALE: f64 = 10_000.0;

/// The learning rate as a pure function of the step, so that a resumed run needs no schedule state.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: LrSchedulerType,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Exponent of `polynomial`.
    pub power: f64,
    /// Steps of the linear warm-up from 0.
    pub warmup_steps: u64,
    /// Optimizer steps of the run.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of the step with the index `step`, from 0.
    ///
    /// As in Hugging Face the first step of a warm-up has a learning rate of 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps.max(1) as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / decay_steps).min(1.0);
        match self.kind {
            LrSchedulerType::Constant => self.learning_rate,
            LrSchedulerType::Linear => self.learning_rate * (1.0 - progress),
            LrSchedulerType::Cosine => {
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            LrSchedulerType::Polynomial => {
                let end = POLYNOMIAL_END.min(self.learning_rate);
                end + (self.learning_rate - end) * (1.0 - progress).powf(self.power)
            }
            LrSchedulerType::InverseSqrt => {
                let timescale = match self.warmup_steps {
                    0 => INVERSE_SQRT_TIMESCALE,
                    warmup => warmup as f64,
                };
                let shift = timescale - self.warmup_steps as f64;
                self.learning_rate / ((step as f64 + shift) / timescale).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: LrSchedulerType, warmup_steps: u64) -> Schedule {
        Schedule { kind, learning_rate: 1e-3, power: 2.0, warmup_steps, total_steps: 110 }
    }

    /// Values of `transformers.get_scheduler` 5.x with the same arguments.
    #[test]
    fn follows_hugging_face() {
        let cases = [
            (LrSchedulerType::Linear, 10, 0, 0.0),
            (LrSchedulerType::Linear, 10, 5, 5e-4),
            (LrSchedulerType::Linear, 10, 10, 1e-3),
            (LrSchedulerType::Linear, 10, 60, 5e-4),
            (LrSchedulerType::Linear, 0, 55, 5e-4),
            (LrSchedulerType::Cosine, 10, 60, 5e-4),
            (LrSchedulerType::Cosine, 10, 35, 1e-3 * 0.853_553_390_593_273_8),
            (LrSchedulerType::Constant, 10, 109, 1e-3),
            (LrSchedulerType::Polynomial, 10, 60, (1e-3 - 1e-7) * 0.25 + 1e-7),
            (LrSchedulerType::InverseSqrt, 10, 40, 5e-4),
            (LrSchedulerType::InverseSqrt, 0, 30_000, 5e-4),
        ];
        for (kind, warmup, step, expected) in cases {
            let found = schedule(kind, warmup).at(step);
            assert!(
                (found - expected).abs() < 1e-12,
                "{kind:?} warmup {warmup} step {step}: {found} != {expected}"
            );
        }
    }

    #[test]
    fn never_negative_and_never_above_the_peak() {
        for kind in [LrSchedulerType::Linear, LrSchedulerType::Cosine, LrSchedulerType::Polynomial] {
            for step in 0..200 {
                let rate = schedule(kind, 7).at(step);
                assert!((0.0..=1e-3).contains(&rate), "{kind:?} step {step}: {rate}");
            }
        }
    }
}
