//! What operators and metrics read from the journal, and what operators change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use backends::{Digest, reason};

use super::{Count, Durations, Journal, JournalError};

/// The most jobs that one request shows or changes.
pub const JOBS_SHOWN: u32 = 1000;

/// The upper bounds of the buckets of [`Ages`], in seconds.
pub const AGES: [u32; 10] = [1, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400];

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits or is being copied, and no try has failed.
    Waiting,
    /// A try has failed. It will be tried again.
    Failing,
    /// It is parked until somebody adds or retries it.
    Parked,
}

impl State {
    /// The state as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Parked => "parked",
        }
    }

    /// The state as a number in SQL statements. 0 stands for any state.
    pub(super) fn number(of: Option<Self>) -> i32 {
        match of {
            None => 0,
            Some(Self::Waiting) => 1,
            Some(Self::Failing) => 2,
            Some(Self::Parked) => 3,
        }
    }
}

/// A job as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The target zone.
    pub zone: Arc<str>,
    /// The blob.
    pub digest: Digest,
    /// The blob's size in bytes, if it is stated.
    pub size: Option<u64>,
    /// The repositories in which the blob was seen, the latest first.
    pub repositories: Vec<String>,
    /// When it was first added.
    pub since: SystemTime,
    /// When it is tried next, unless it is parked.
    pub due: SystemTime,
    /// Failed tries.
    pub attempts: u32,
    /// When the last try failed.
    pub failed: Option<SystemTime>,
    /// Why it failed, or was parked.
    pub error: Option<String>,
    /// When it was parked, if it is.
    pub parked: Option<SystemTime>,
}

impl JobView {
    /// The job's state.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.parked, self.failed) {
            (Some(_), _) => State::Parked,
            (None, Some(_)) => State::Failing,
            (None, None) => State::Waiting,
        }
    }
}

/// Selects the jobs to show. They are sorted by zone and digest.
#[derive(Debug, Default, Clone)]
pub struct JobQuery {
    /// Only jobs of this zone.
    pub zone: Option<Arc<str>>,
    /// Only jobs in this state.
    pub state: Option<State>,
    /// Only jobs after this zone and digest, which are those of the last job on the previous page.
    pub after: Option<(String, String)>,
    /// The number of jobs; at most [`JOBS_SHOWN`].
    pub limit: u32,
}

/// Selects the jobs to change.
#[derive(Debug, Clone)]
pub struct JobSelection {
    /// Jobs of these zones.
    pub zones: Vec<Arc<str>>,
    /// Jobs of these blobs, at most [`JOBS_SHOWN`]. `None` for all jobs.
    pub digests: Option<Vec<Digest>>,
    /// Only jobs in this state.
    pub state: Option<State>,
}

/// A histogram of the waiting jobs of a zone by their age.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Ages {
    /// For each of [`AGES`], the number of jobs that are no older.
    pub up_to: [u64; AGES.len()],
    /// All waiting jobs.
    pub jobs: u64,
    /// The sum of their ages in seconds.
    pub seconds: f64,
}

/// Blobs that have jobs for the same set of zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// The zones as a bit set: bit `n` stands for zone `n` of the given list.
    pub zones: u64,
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
}

impl Journal {
    /// The jobs of every zone that has any, sorted by the zones' names.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn counts(&self) -> Result<Vec<Count>, JournalError> {
        self.engine.counts().await
    }

    /// Counts the jobs of a zone that are not parked, up to `at_most`.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Result<u64, JournalError> {
        self.engine.depth(zone, at_most).await
    }

    /// One page of jobs, sorted by zone and digest.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn jobs(&self, mut query: JobQuery) -> Result<Vec<JobView>, JournalError> {
        query.limit = query.limit.min(JOBS_SHOWN);
        if let (Some(zone), None) = (&query.zone, &query.after) {
            // No digest is empty, so all jobs of the zone come after this.
            query.after = Some((zone.to_string(), String::new()));
        }
        self.engine.jobs(query).await
    }

    /// The jobs of one blob in these zones.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn jobs_of(&self, digest: &Digest, zones: &[Arc<str>]) -> Result<Vec<JobView>, JournalError> {
        self.engine.jobs_of(digest, zones).await
    }

    /// Makes jobs due that are parked or wait for another try. Returns their number. Jobs that are already
    /// due are not changed.
    ///
    /// # Errors
    /// A commit failed or took too long. Some of the jobs may be due, and some may not.
    pub async fn retry(&self, selection: &JobSelection) -> Result<u64, JournalError> {
        let changed = self.engine.retry(selection).await;
        selection.zones.iter().for_each(|zone| self.wake(zone));
        changed
    }

    /// Parks the jobs of these blobs until somebody adds or retries them, and records why. Returns their
    /// number. A job that is being copied is finished all the same.
    ///
    /// # Errors
    /// The commit failed or took too long.
    pub async fn park_blobs(
        &self,
        digests: &[Digest],
        zones: &[Arc<str>],
        why: &str,
    ) -> Result<u64, JournalError> {
        self.engine.park_blobs(digests, zones, &reason(why)).await
    }

    /// The waiting jobs of every zone by their age. Reads every job.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn ages(&self) -> Result<BTreeMap<Arc<str>, Ages>, JournalError> {
        self.engine.ages().await
    }

    /// Counts blobs by the set of zones for which they have jobs, parked or not. `zones` has at most 63
    /// zones. Reads every job.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn outstanding(&self, zones: &[Arc<str>]) -> Result<Vec<Outstanding>, JournalError> {
        self.engine.outstanding(zones).await
    }

    /// How long the jobs that this process finished took, by zone, from when they were first added.
    #[must_use]
    pub fn finished(&self) -> BTreeMap<Arc<str>, Durations> {
        self.durations.all()
    }
}
