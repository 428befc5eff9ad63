//! How fast requests go out: a rate, and pauses that a server asks for.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What tells the time and lets it pass.
pub trait Clock: Send + Sync {
    /// Time since some start.
    fn now(&self) -> Duration;

    /// Returns after `time`.
    fn sleep(&self, time: Duration);
}

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Longest time that is slept before looking up whether to give up.
const SLICE: Duration = Duration::from_millis(100);

/// Lets `time` pass; `false` if `hurry` cut it short.
pub(crate) fn wait(clock: &dyn Clock, time: Duration, hurry: &dyn Fn() -> bool) -> bool {
    let end = clock.now().saturating_add(time);
    loop {
        let left = end.saturating_sub(clock.now());
        if left.is_zero() {
            return true;
        }
        if hurry() {
            return false;
        }
        clock.sleep(left.min(SLICE));
    }
}

/// A token bucket of one token: requests go out evenly, at most so many a minute, and none before the
/// end of a pause.
#[derive(Debug)]
pub struct Pace {
    /// Time between two requests; zero for as fast as they come.
    interval: Duration,
    /// When the next request may go out.
    next: Mutex<Duration>,
}

impl Pace {
    /// At most `requests_per_minute`, a positive number; `None` is no limit.
    pub fn new(requests_per_minute: Option<f64>) -> Self {
        let interval = requests_per_minute.map_or(0.0, |rate| 60.0 / rate);
        let interval = Duration::try_from_secs_f64(interval).unwrap_or(Duration::MAX);
        Self { interval, next: Mutex::new(Duration::ZERO) }
    }

    /// Waits for a request's turn; `false` if `hurry` cut that short.
    pub fn take(&self, clock: &dyn Clock, hurry: &dyn Fn() -> bool) -> bool {
        loop {
            let now = clock.now();
            let turn = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                if *next <= now {
                    *next = now.saturating_add(self.interval);
                    return !hurry();
                }
                *next
            };
            if !wait(clock, turn - now, hurry) {
                return false;
            }
        }
    }

    /// Lets no request out for `time`: what the server asked for holds for all of them.
    pub fn pause(&self, clock: &dyn Clock, time: Duration) {
        let end = clock.now().saturating_add(time);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = end.max(*next);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    /// A clock on which sleeping is all that takes time.
    #[derive(Debug, Default)]
    pub(crate) struct Stopped(Mutex<Duration>);

    impl Clock for Stopped {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    #[test]
    fn requests_go_out_evenly() {
        let (clock, pace) = (Stopped::default(), Pace::new(Some(120.0)));
        let times: Vec<f64> = (0..5)
            .map(|_| {
                assert!(pace.take(&clock, &|| false));
                clock.now().as_secs_f64()
            })
            .collect();
        assert_eq!(times, [0.0, 0.5, 1.0, 1.5, 2.0]);
        // What was not used is not saved up.
        clock.sleep(Duration::from_secs(10));
        pace.take(&clock, &|| false);
        pace.take(&clock, &|| false);
        assert_eq!(clock.now().as_secs_f64(), 12.5);
    }

    #[test]
    fn many_threads_keep_one_rate() {
        let (clock, pace) = (Arc::new(Stopped::default()), Arc::new(Pace::new(Some(60.0))));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (clock, pace) = (Arc::clone(&clock), Arc::clone(&pace));
                thread::spawn(move || (0..5).for_each(|_| assert!(pace.take(clock.as_ref(), &|| false))))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(clock.now() >= Duration::from_secs(39), "{:?}", clock.now());
    }

    #[test]
    fn a_pause_holds_for_all_and_is_never_shortened() {
        let (clock, pace) = (Stopped::default(), Pace::new(None));
        pace.pause(&clock, Duration::from_secs(30));
        pace.pause(&clock, Duration::from_secs(3));
        assert!(pace.take(&clock, &|| false));
        assert_eq!(clock.now(), Duration::from_secs(30));
        assert!(pace.take(&clock, &|| false));
        assert_eq!(clock.now(), Duration::from_secs(30));
    }

    #[test]
    fn waiting_can_be_given_up() {
        let (clock, pace) = (Stopped::default(), Pace::new(None));
        pace.pause(&clock, Duration::from_secs(30));
        assert!(!pace.take(&clock, &|| clock.now() >= Duration::from_secs(2)));
        assert!(clock.now() < Duration::from_secs(3));
    }
}
