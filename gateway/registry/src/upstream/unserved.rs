//! Counts requests that no instance of the registry could answer.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The least time between two lines in the log.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts such requests, and logs an error about them at most once a minute.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    count: AtomicU64,
    /// When the last line was logged, and the count at that time.
    logged: Mutex<Option<(Instant, u64)>>,
}

impl Unserved {
    /// Counts a request to which every instance answered 5xx or nothing. `answers` describes each answer.
    pub(super) fn note(&self, answers: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(requests) = self.to_log(Instant::now(), count) {
            tracing::error!(
                answers,
                requests,
                "THE REGISTRY DOES NOT SERVE: every instance that was asked answers 5xx or not at all; check the \
                 log and the database of Quay"
            );
        }
    }

    /// The number of requests since the last line, if that line is old enough.
    fn to_log(&self, now: Instant, count: u64) -> Option<u64> {
        let mut logged = self.logged.lock();
        let before = match *logged {
            Some((at, _)) if now - at < PAUSE => return None,
            Some((_, before)) => before,
            None => 0,
        };
        *logged = Some((now, count));
        Some(count.saturating_sub(before))
    }

    /// The number of such requests so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_once_a_minute() {
        let unserved = Unserved::default();
        let start = Instant::now();
        assert_eq!(unserved.to_log(start, 1), Some(1));
        assert_eq!(unserved.to_log(start, 2), None);
        assert_eq!(unserved.to_log(start + PAUSE / 2, 30), None);
        assert_eq!(unserved.to_log(start + PAUSE, 31), Some(30));
        assert_eq!(unserved.to_log(start + PAUSE, 32), None);
    }
}
