//! The bounds of the fan-out.

use std::time::Duration;

use super::Backoff;

/// What limits a lane. The defaults suit stores across a WAN.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Copies under way at once, per target zone; at least 1 is used.
    pub copies: usize,
    /// Waits of one job after its own failures. Every failed job comes back within `max`.
    pub retry: Backoff,
    /// The same where no zone has the blob: it may have been deleted, and many such must not take
    /// the lane's time from those that can be copied.
    pub nowhere: Backoff,
    /// Pauses of a whole lane while its target zone fails, or the journal does.
    pub pause: Backoff,
    /// A copy slower than this many bytes per second over its whole is broken off; see
    /// [`Bounds::deadline`].
    pub slowest: u64,
}

/// Added to every copy's deadline, so that small blobs are not measured by their speed.
const GRACE: Duration = Duration::from_secs(60);

impl Bounds {
    /// The longest that any job waits.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.retry.max.max(self.nowhere.max)
    }

    /// How long a copy of `size` bytes may take in all.
    #[must_use]
    pub fn deadline(&self, size: u64) -> Duration {
        GRACE + Duration::from_secs(size / self.slowest.max(1))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            copies: 4,
            retry: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(600) },
            nowhere: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(6 * 3600) },
            pause: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) },
            slowest: 64 * 1024,
        }
    }
}
