//! What a lane has done, and what it still has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::copy::{JobEnd, Outcome};
use super::failures::FailureCounts;
use super::journal::Count;

/// The status of one lane, for metrics and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStatus {
    /// The target zone.
    pub zone: Arc<str>,
    /// Whether the zone is configured. If not, its jobs stay in the journal and nobody does them.
    pub configured: bool,
    /// Why the zone is unusable, if it is. Nobody then does its jobs either.
    pub unusable: Option<Arc<str>>,
    /// The jobs that wait or are being copied.
    pub waiting: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// When the oldest of them was added.
    pub oldest: Option<SystemTime>,
    /// How many of them have failed at least once.
    pub failing: u64,
    /// The number of all their failed tries.
    pub attempts: u64,
    /// The error of the latest failed try of a waiting job.
    pub last_error: Option<String>,
    /// The parked jobs, which wait until they are added again. They are not counted above.
    pub parked: u64,
    /// Their bytes, as far as they are known.
    pub parked_bytes: u64,
    /// The copies in progress.
    pub active: u64,
    /// Bytes that were read for the zone since the start, including copies in progress.
    pub moved_bytes: u64,
    /// About how many of these bytes belong to copies in progress.
    pub under_way_bytes: u64,
    /// The copies that were written and verified since the start.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// How many of these copies replaced an object that was not the blob.
    pub replaced: u64,
    /// The jobs since the start for which the target already had the blob.
    pub already_there: u64,
    /// The jobs since the start that ended because the registry no longer has the blob.
    pub withdrawn: u64,
    /// The failed tries since the start.
    pub failures: u64,
}

/// What a lane has done since the start.
#[derive(Debug, Default)]
pub(super) struct LaneCounters {
    active: AtomicU64,
    /// Bytes read that do not belong to a copy in progress.
    settled: AtomicU64,
    copied: AtomicU64,
    copied_bytes: AtomicU64,
    replaced: AtomicU64,
    already_there: AtomicU64,
    withdrawn: AtomicU64,
    failures: AtomicU64,
    pub(super) failures_by_kind: FailureCounts,
}

impl LaneCounters {
    /// Sets the number of copies in progress. `moved` counts all bytes that the lane has read.
    pub(super) fn set_active(&self, copies: usize, moved: u64) {
        self.active.store(copies as u64, Ordering::Relaxed);
        if copies == 0 {
            self.settled.store(moved, Ordering::Relaxed);
        }
    }

    pub(super) fn note(&self, end: &JobEnd) {
        match end {
            JobEnd::Done(Outcome::AlreadyThere) => self.already_there.fetch_add(1, Ordering::Relaxed),
            JobEnd::Done(Outcome::Copied { bytes, replaced, .. }) => {
                self.copied_bytes.fetch_add(*bytes, Ordering::Relaxed);
                self.settled.fetch_add(*bytes, Ordering::Relaxed);
                self.replaced.fetch_add(u64::from(*replaced), Ordering::Relaxed);
                self.copied.fetch_add(1, Ordering::Relaxed)
            }
            JobEnd::Done(Outcome::Withdrawn) => self.withdrawn.fetch_add(1, Ordering::Relaxed),
            JobEnd::Deferred(_) => return,
            JobEnd::Parked(_) => self.failures.fetch_add(1, Ordering::Relaxed),
            JobEnd::Failed(error) => {
                self.failures_by_kind.note(error);
                self.failures.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    pub(super) fn status(&self, zone: &Arc<str>, count: Option<Count>, moved: u64) -> LaneStatus {
        LaneStatus {
            moved_bytes: moved,
            under_way_bytes: moved.saturating_sub(self.settled.load(Ordering::Relaxed)),
            active: self.active.load(Ordering::Relaxed),
            copied: self.copied.load(Ordering::Relaxed),
            copied_bytes: self.copied_bytes.load(Ordering::Relaxed),
            replaced: self.replaced.load(Ordering::Relaxed),
            already_there: self.already_there.load(Ordering::Relaxed),
            withdrawn: self.withdrawn.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            ..waiting(zone, true, count)
        }
    }
}

/// The status of a zone that has no lane.
pub(super) fn unconfigured(count: Count) -> LaneStatus {
    waiting(&Arc::clone(&count.zone), false, Some(count))
}

fn waiting(zone: &Arc<str>, configured: bool, count: Option<Count>) -> LaneStatus {
    let count = count.unwrap_or_else(|| Count::none(zone));
    LaneStatus {
        zone: Arc::clone(zone),
        configured,
        unusable: None,
        waiting: count.jobs,
        bytes: count.bytes,
        oldest: count.oldest,
        failing: count.failing,
        attempts: count.attempts,
        last_error: count.last_error,
        parked: count.parked,
        parked_bytes: count.parked_bytes,
        active: 0,
        moved_bytes: 0,
        under_way_bytes: 0,
        copied: 0,
        copied_bytes: 0,
        replaced: 0,
        already_there: 0,
        withdrawn: 0,
        failures: 0,
    }
}
