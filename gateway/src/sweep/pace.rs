//! How slowly a sweep goes: as its rate says, slower where the registry is slow, and not at all for a
//! while where it says so. Pure.

use std::time::Duration;

/// After an answer that took long it is left alone for so many times as long.
const POLITENESS: u32 = 2;

/// Pauses while it fails: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The time between requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    /// By the rate.
    gap: Duration,
    failures: u32,
}

impl Pace {
    /// So many requests a second, at most.
    pub(super) fn new(rate: f64) -> Self {
        Self { gap: Duration::from_secs_f64(1.0 / rate), failures: 0 }
    }

    /// How long to wait after an answer that took so long; `jitter` from 0 to 1.
    pub(super) fn after(&mut self, took: Duration, jitter: f64) -> Duration {
        self.failures = 0;
        let gap = self.gap.saturating_sub(took).mul_f64(0.5 + jitter);
        if took > self.gap { gap.max(took * POLITENESS) } else { gap }
    }

    /// How long to wait after one that says that the registry has no time.
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
        fn never_faster_than_half_a_gap_nor_than_the_registry(rate in 0.01_f64..1000.0, ms in 0_u64..60_000, jitter in 0.0_f64..1.0) {
            let mut pace = Pace::new(rate);
            let took = Duration::from_millis(ms);
            let wait = pace.after(took, jitter);
            let gap = Duration::from_secs_f64(1.0 / rate);
            prop_assert!(wait + took + Duration::from_micros(1) >= gap / 2);
            prop_assert!(took <= gap || wait >= took * 2);
        }

        #[test]
        fn failures_in_a_row_wait_longer_and_longer(jitter in 0.0_f64..1.0) {
            let mut pace = Pace::new(5.0);
            let pauses: Vec<_> = (0..40).map(|_| pace.after_failure(jitter)).collect();
            prop_assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(pauses[0] >= PAUSE_FIRST / 2 && *pauses.last().expect("one") <= PAUSE_MAX);
            let calm = pace.after(Duration::ZERO, jitter);
            prop_assert!(calm <= Duration::from_millis(300) && pace.after_failure(jitter) == pauses[0]);
        }
    }
}
