//! The waits and bounds of the fan-out.

use std::time::Duration;

use backends::Backoff;

/// When an object that exists at the target counts as the blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// It has the blob's size.
    #[default]
    Size,
    /// It was read, and its digest is right.
    Deep,
}

/// The waits and bounds of a lane. The defaults suit stores across a WAN.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The waits of one job after its own failures. Every failed job is tried again within `max`.
    pub retry: Backoff,
    /// The waits of a job whose blob no zone has. They are longer, because the blob may have been deleted:
    /// many such jobs must not take the lane's time from jobs that can be done.
    pub nowhere: Backoff,
    /// How often a job whose blob no zone has is tried before the registry is asked about the blob.
    pub nowhere_tries: u32,
    /// The pauses of a whole lane while its target zone or the journal fails.
    pub pause: Backoff,
    /// The slowest speed of a whole copy, in bytes per second. A slower copy is cancelled. If the bandwidth
    /// is limited and half of the copy's share is less, that counts instead. See [`Bounds::deadline`].
    pub slowest: u64,
    /// If a source sends nothing for this long in the middle of a body, it counts as broken off. Opening
    /// another source may take as long again, and the target's driver must tolerate the sum.
    pub stall: Duration,
}

/// This is added to every copy's deadline, so that the speed does not decide for small blobs.
const DEADLINE_BASE: Duration = Duration::from_secs(60);

impl Bounds {
    /// The longest that any job waits.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.retry.max.max(self.nowhere.max)
    }

    /// How long a copy of `size` bytes may take in all, at `slowest` bytes per second.
    #[must_use]
    pub fn deadline(&self, size: u64, slowest: u64) -> Duration {
        DEADLINE_BASE + Duration::from_secs(size / slowest.max(1))
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
