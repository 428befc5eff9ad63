//! When a request is tried again, and after how long.
use std::time::Duration;

use crate::error::RationaleError;

/// How often and after how long a request is tried again.
///
/// The waits grow exponentially and are drawn by chance from their upper half, so that requests that
/// failed together do not come back together ("equal jitter", Brooker 2015, "Exponential Backoff and
/// Jitter"). What a server asks for by `Retry-After` goes before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first; default 6.
    pub max_retries: u32,
    /// Wait before the first of them; default 1 s. Each further one is twice as long.
    pub first_wait: Duration,
    /// Longest wait; default 60 s.
    pub longest_wait: Duration,
    /// Longest wait that a server may ask for, before its row counts as failed; default 600 s.
    pub longest_retry_after: Duration,
    /// Where draws begin; default 0.
    pub seed: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 6,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(600),
            seed: 0,
        }
    }
}

impl RetryPolicy {
    /// Checks that waits can be waited for.
    ///
    /// # Errors
    /// [`RationaleError::Range`] if the first wait is longer than the longest.
    pub fn check(&self) -> Result<(), RationaleError> {
        if self.first_wait > self.longest_wait {
            return Err(RationaleError::Range {
                name: "first_wait",
                allowed: "at most `longest_wait`",
                found: format!("{:?}", self.first_wait),
            });
        }
        Ok(())
    }

    /// The wait before try `tried + 2` of `row`, where `tried` counts from 0.
    pub fn wait(&self, row: usize, tried: u32) -> Duration {
        let full = self.first_wait.saturating_mul(1 << tried.min(20)).min(self.longest_wait);
        full.mul_f64(0.5 + 0.5 * fraction(self.seed, row as u64, tried.into()))
    }
}

/// Whether an answer with this status may be another one next time: a timeout, a conflict, too early, too
/// many requests, or a fault of the server (RFC 9110, §15; RFC 8470, §5.2; RFC 6585, §4).
pub fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

/// A number from 0 up to 1, 1 excluded, by SplitMix64 (Steele et al. 2014, figure 16).
fn fraction(seed: u64, row: u64, tried: u64) -> f64 {
    let mixed = [row, tried].into_iter().fold(mix(seed), |state, part| mix(state ^ part));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_row() {
        let policy = RetryPolicy::default();
        for tried in 0..40 {
            let full = 2_f64.powi(tried).min(60.0);
            let waits: Vec<f64> = (0..50).map(|row| policy.wait(row, tried as u32).as_secs_f64()).collect();
            assert!(waits.iter().all(|wait| (full / 2.0..=full).contains(wait)), "{tried}: {waits:?}");
            let mean = waits.iter().sum::<f64>() / 50.0;
            assert!((0.65..0.85).contains(&(mean / full)), "{tried}: {mean}");
        }
        assert_eq!(policy.wait(3, 1), policy.wait(3, 1));
        assert_ne!(policy.wait(3, 1), RetryPolicy { seed: 1, ..policy }.wait(3, 1));
    }

    #[test]
    fn splitmix64_is_the_published_one() {
        // Vigna's splitmix64.c with the state 1234567, as Rosetta Code lists it.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn statuses_that_may_pass() {
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 529] {
            assert!(is_retried(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 413, 422] {
            assert!(!is_retried(status), "{status}");
        }
    }

    #[test]
    fn a_first_wait_beyond_the_longest_is_refused() {
        let policy = RetryPolicy { first_wait: Duration::from_secs(61), ..RetryPolicy::default() };
        assert!(policy.check().is_err());
        assert!(RetryPolicy::default().check().is_ok());
    }
}
