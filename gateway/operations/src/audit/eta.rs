//! Estimates the remaining time, and formats durations. Pure.

use std::time::Duration;

/// The share of the work that must be done before the rest can be estimated.
const SHARE_MIN: f64 = 0.01;

/// The remaining time, if `done` of `all` took `elapsed` and the rest is equally fast. `None` if too little is
/// done for an estimate, or there is nothing to do.
#[must_use]
pub(super) fn remaining(done: u64, all: u64, elapsed: Duration) -> Option<Duration> {
    if done >= all {
        return (all > 0).then_some(Duration::ZERO);
    }
    let share = done as f64 / all as f64;
    if share < SHARE_MIN {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok()
}

/// A duration for people, in its one or two largest units.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_done_takes_as_long_again() {
        let minute = Duration::from_secs(60);
        assert_eq!(remaining(128, 256, minute), Some(minute));
        assert_eq!(remaining(256, 256, minute), Some(Duration::ZERO));
        assert_eq!(
            (remaining(0, 256, minute), remaining(2, 256, minute), remaining(0, 0, minute)),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn the_remaining_time_shrinks(all in 1..1_000_000_u64, a: u64, b: u64, seconds in 0..10_000_000_u64) {
            let (less, more) = ((a % all).min(b % all), (a % all).max(b % all));
            let elapsed = Duration::from_secs(seconds);
            if let (Some(longer), Some(shorter)) = (remaining(less, all, elapsed), remaining(more, all, elapsed)) {
                prop_assert!(shorter <= longer);
            }
            prop_assert!(remaining(less, all, elapsed).is_none_or(|remaining| remaining <= elapsed * 100));
        }
    }

    #[test]
    fn the_largest_units_are_shown() {
        let message = [5, 130, 7300, 200_000].map(|seconds| human_duration(Duration::from_secs(seconds)));
        assert_eq!(message, ["5 s", "2 min", "2 h 1 min", "2 d 7 h"]);
    }
}
