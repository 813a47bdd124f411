//! How long it will still take. Pure.

use std::time::Duration;

/// Of this share of the work at least, the rest can be told.
const TOLD_FROM: f64 = 0.01;

/// How long what is left takes, if it goes on as it went: `done` of `all` took `elapsed`. `None` while
/// that is a guess, or where there is nothing to do.
#[must_use]
pub(super) fn left(done: u64, all: u64, elapsed: Duration) -> Option<Duration> {
    if done >= all {
        return (all > 0).then_some(Duration::ZERO);
    }
    let share = done as f64 / all as f64;
    if share < TOLD_FROM {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok()
}

/// A duration as people say it: its two largest units.
#[must_use]
pub fn spoken(duration: Duration) -> String {
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
        assert_eq!(left(128, 256, minute), Some(minute));
        assert_eq!(left(256, 256, minute), Some(Duration::ZERO));
        assert_eq!((left(0, 256, minute), left(2, 256, minute), left(0, 0, minute)), (None, None, None));
    }

    proptest! {
        #[test]
        fn what_is_left_shrinks(all in 1..1_000_000_u64, a: u64, b: u64, seconds in 0..10_000_000_u64) {
            let (less, more) = ((a % all).min(b % all), (a % all).max(b % all));
            let elapsed = Duration::from_secs(seconds);
            if let (Some(longer), Some(shorter)) = (left(less, all, elapsed), left(more, all, elapsed)) {
                prop_assert!(shorter <= longer);
            }
            prop_assert!(left(less, all, elapsed).is_none_or(|left| left <= elapsed * 100));
        }
    }

    #[test]
    fn spoken_as_people_do() {
        let said = [5, 130, 7300, 200_000].map(|seconds| spoken(Duration::from_secs(seconds)));
        assert_eq!(said, ["5 s", "2 min", "2 h 1 min", "2 d 7 h"]);
    }
}
