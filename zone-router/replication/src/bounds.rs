//! The bounds of the fan-out.

use std::time::Duration;

use backends::Backoff;

/// When an object that is there already counts as the blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// It has the blob's size.
    #[default]
    Size,
    /// It was read and hashed.
    Deep,
}

/// What limits a lane. The defaults suit stores across a WAN.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Waits of one job after its own failures. Every failed job comes back within `max`.
    pub retry: Backoff,
    /// The same where no zone has the blob: it may have been deleted, and many such must not take
    /// the lane's time from those that can be copied.
    pub nowhere: Backoff,
    /// Tries of a job that no zone has before the registry is asked about it.
    pub nowhere_tries: u32,
    /// Pauses of a whole lane while its target zone fails, or the journal does.
    pub pause: Backoff,
    /// A copy slower than this many bytes per second over its whole is broken off, or than half its
    /// share of a bandwidth cap; see [`Bounds::deadline`].
    pub slowest: u64,
    /// A source that gives nothing for so long in the middle of a body has broken off. To go on
    /// elsewhere may take as long again, and both must fit into what the target's driver bears.
    pub stall: Duration,
}

/// Added to every copy's deadline, so that small blobs are not measured by their speed.
const GRACE: Duration = Duration::from_secs(60);

impl Bounds {
    /// The longest that any job waits.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.retry.max.max(self.nowhere.max)
    }

    /// How long a copy of `size` bytes may take in all, if `slowest` bytes a second must do.
    #[must_use]
    pub fn deadline(&self, size: u64, slowest: u64) -> Duration {
        GRACE + Duration::from_secs(size / slowest.max(1))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            retry: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(600) },
            nowhere: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(6 * 3600) },
            nowhere_tries: 8,
            pause: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) },
            slowest: 64 * 1024,
            stall: Duration::from_secs(4),
        }
    }
}
