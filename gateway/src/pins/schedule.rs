//! When the images of a pin are read again. Pure: the time is passed in.

use std::time::{Duration, SystemTime};

use config::DailyWindow;

/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What became of an image the last time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    /// When all of it was last read and in the cache.
    pub(super) complete: Option<SystemTime>,
    /// When it last failed, if it did after that.
    pub(super) failed: Option<SystemTime>,
}

/// How long to wait until an image is read again. Zero if it is due now.
pub(super) fn wait(now: SystemTime, last: Last, every: Duration, window: Option<DailyWindow>) -> Duration {
    let until = |at: SystemTime, pause: Duration| {
        // A clock that was set back must not delay it for longer than the pause.
        let since = now.duration_since(at).unwrap_or_default();
        pause.saturating_sub(since)
    };
    let due = match last {
        Last { failed: Some(failed), .. } => until(failed, every.min(RETRY_MAX)),
        Last { complete: Some(complete), .. } => until(complete, every),
        Last { .. } => Duration::ZERO,
    };
    due + window.map_or(Duration::ZERO, |window| window.opens_in(now + due))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR.mul_f64(1000.0 * 24.0 + hours)
    }

    #[test]
    fn due_after_a_success_a_failure_and_within_the_window() {
        let window: DailyWindow = "01:00-05:00".parse().expect("a window");
        let complete = |hours| Last { complete: Some(at(hours)), failed: None };
        let failed = |hours| Last { complete: Some(at(0.0)), failed: Some(at(hours)) };
        for (now, last, window, expected) in [
            (0.0, Last::default(), None, Duration::ZERO),
            (0.0, Last::default(), Some(window), HOUR),
            (2.0, Last::default(), Some(window), Duration::ZERO),
            (2.0, complete(1.5), None, HOUR / 2),
            (2.0, complete(0.5), None, Duration::ZERO),
            // The clock was set back.
            (2.0, complete(9.0), None, HOUR),
            (4.5, complete(4.25), Some(window), HOUR.mul_f64(20.5)),
            (2.0, failed(2.0), None, RETRY_MAX),
            (2.0, failed(1.0), None, Duration::ZERO),
            (5.0, failed(5.0), Some(window), HOUR * 20),
        ] {
            assert_eq!(wait(at(now), last, HOUR, window), expected, "{now} {last:?}");
        }
        assert_eq!(wait(at(2.0), failed(2.0), HOUR / 120, None), HOUR / 120);
    }
}
