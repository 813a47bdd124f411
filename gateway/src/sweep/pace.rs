//! The pace of a sweep. It follows the configured rate, slows down if the registry is slow, and pauses if the
//! registry is busy. Pure.

use std::time::Duration;

/// The wait after an answer, as a multiple of the time that the answer took.
const WAIT_PER_ANSWER: u32 = 2;

/// The first and the longest pause while requests fail.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Computes the time between requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    /// The time between requests at the configured rate.
    gap: Duration,
    failures: u32,
}

impl Pace {
    /// A pace of at most this many requests a second.
    pub(super) fn new(rate: f64) -> Self {
        Self { gap: Duration::from_secs_f64(1.0 / rate), failures: 0 }
    }

    /// How long to wait after an answer that took this long. `jitter` is from 0 to 1.
    pub(super) fn after(&mut self, took: Duration, jitter: f64) -> Duration {
        self.failures = 0;
        let gap = self.gap.saturating_sub(took).mul_f64(0.5 + jitter);
        if took > self.gap { gap.max(took * WAIT_PER_ANSWER) } else { gap }
    }

    /// How long to wait after the registry answered that it is busy.
    pub(super) fn after_failure(&mut self, jitter: f64) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_are_at_least_half_a_gap_and_follow_the_registry(rate in 0.01_f64..1000.0, ms in 0_u64..60_000, jitter in 0.0_f64..1.0) {
            let mut pace = Pace::new(rate);
            let took = Duration::from_millis(ms);
            let wait = pace.after(took, jitter);
            let gap = Duration::from_secs_f64(1.0 / rate);
            prop_assert!(wait + took + Duration::from_micros(1) >= gap / 2);
            prop_assert!(took <= gap || wait >= took * 2);
        }

        #[test]
        fn pauses_grow_with_failures_in_a_row(jitter in 0.0_f64..1.0) {
            let mut pace = Pace::new(5.0);
            let pauses: Vec<_> = (0..40).map(|_| pace.after_failure(jitter)).collect();
            prop_assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(pauses[0] >= PAUSE_FIRST / 2 && *pauses.last().expect("one") <= PAUSE_MAX);
            let calm = pace.after(Duration::ZERO, jitter);
            prop_assert!(calm <= Duration::from_millis(300) && pace.after_failure(jitter) == pauses[0]);
        }
    }
}
