//! How long to wait before a retry. Pure: the random number is passed in.

use std::time::Duration;

/// Capped exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first wait.
    pub base: Duration,
    /// The upper bound of every wait, whatever the attempt and whatever the server asks for.
    pub max: Duration,
}

impl Backoff {
    /// The wait before the next attempt, after `attempt` earlier failures.
    ///
    /// The wait is spread evenly between zero and `min(max, base * 2^attempt)`, so that requests that failed
    /// together do not return together. `random`, in `0.0..1.0`, selects the point in that range. A server's
    /// `Retry-After` is the lower bound of the wait, up to `max`.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        let jittered = self.ceiling(attempt).mul_f64(random.clamp(0.0, 1.0));
        jittered.max(retry_after.unwrap_or_default()).min(self.max)
    }

    /// The longest wait after `attempt` failures.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff() -> impl Strategy<Value = Backoff> {
        (1_u64..10_000, 0_u64..1_000_000).prop_map(|(base, more)| Backoff {
            base: Duration::from_millis(base),
            max: Duration::from_millis(base + more),
        })
    }

    proptest! {
        #[test]
        fn never_beyond_the_maximum(b in backoff(), attempt: u32, random in 0.0..1.0_f64, after in proptest::option::of(0_u64..u64::MAX / 2)) {
            prop_assert!(b.delay(attempt, random, after.map(Duration::from_millis)) <= b.max);
        }

        #[test]
        fn never_before_what_the_server_asked(b in backoff(), attempt: u32, random in 0.0..1.0_f64, after in 0_u64..2_000_000) {
            let after = Duration::from_millis(after);
            prop_assert!(b.delay(attempt, random, Some(after)) >= after.min(b.max));
        }

        #[test]
        fn the_ceiling_doubles_up_to_the_maximum(b in backoff(), attempt in 0_u32..1_000) {
            prop_assert_eq!(b.ceiling(attempt + 1), b.ceiling(attempt).saturating_mul(2).min(b.max));
        }

        #[test]
        fn jitter_spans_the_whole_wait(b in backoff(), attempt in 0_u32..64) {
            prop_assert_eq!(b.delay(attempt, 0.0, None), Duration::ZERO);
            let half = b.delay(attempt, 0.5, None);
            let ceiling = b.ceiling(attempt);
            prop_assert!(half >= ceiling.mul_f64(0.49) && half <= ceiling.mul_f64(0.51));
        }
    }

    #[test]
    fn the_first_waits() {
        let b = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(5) };
        let ceilings: Vec<_> = (0..5).map(|attempt| b.ceiling(attempt).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 5, 5]);
    }
}
