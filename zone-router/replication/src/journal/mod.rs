//! The durable list of copies that are still to be made.
//!
//! Two engines keep it: an SQLite file for one gateway, and PostgreSQL for several gateways that share the
//! work. Both promise the same. When [`Journal::add`] returns, an added job is on disk. It leaves the journal
//! only after it was done since it was last added.

mod claim_order;
mod durations;
mod engine;
mod error;
mod fair_queue;
mod inspect;
mod postgres;
mod size;
mod sqlite;
mod wake_ups;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::{Digest, reason};
use postgres_connection::Database;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use durations::{DURATION_BUCKETS, Durations};
pub use error::JournalError;
pub use inspect::{AGES, Ages, JOBS_SHOWN, JobQuery, JobSelection, JobView, Outstanding, State};
pub use postgres::LEASE;
#[cfg(test)]
pub(super) use sqlite::{Apply, Simulated};

use super::job::{FoundSize, Job, NewJob};
use durations::DurationsByZone;
use engine::Engine;
use fair_queue::{FairQueue, ROWS_PER_PERMIT};
use postgres::Postgres;
use sqlite::Sqlite;
use wake_ups::WakeUps;

/// How long [`Journal::add`] may take. A push must not hang because a disk hangs, or because others push
/// much.
const ADD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a lane must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This job, now.
    Job(Job),
    /// Wait for this time, unless the lane is woken up: no job is due.
    Wait(Duration),
}

/// The counts of the jobs of one target zone. Parked jobs are counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The target zone.
    pub zone: Arc<str>,
    /// The jobs that wait or are being copied.
    pub jobs: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// When the oldest of them was added.
    pub oldest: Option<SystemTime>,
    /// How many of them have failed at least once.
    pub failing: u64,
    /// The number of all their failed tries.
    pub attempts: u64,
    /// The error of the latest failed try.
    pub last_error: Option<String>,
    /// The parked jobs.
    pub parked: u64,
    /// The bytes of parked jobs, as far as they are known.
    pub parked_bytes: u64,
}

impl Count {
    /// The count of a zone without jobs.
    pub(super) fn none(zone: &Arc<str>) -> Self {
        Self {
            zone: Arc::clone(zone),
            jobs: 0,
            bytes: 0,
            oldest: None,
            failing: 0,
            attempts: 0,
            last_error: None,
            parked: 0,
            parked_bytes: 0,
        }
    }
}

/// A handle on the journal. The engine stops when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Journal {
    engine: Arc<dyn Engine>,
    wake_ups: WakeUps,
    add_queue: FairQueue,
    durations: DurationsByZone,
}

impl Journal {
    /// Opens the journal in this SQLite file. If the file does not exist, it is created with mode 0600. Its
    /// folder must exist.
    ///
    /// # Errors
    /// The file cannot be created, is not a database, or was written by a later release.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self::of(Arc::new(Sqlite::open(path)?), WakeUps::default()))
    }

    /// The journal on a simulated disk.
    #[cfg(test)]
    pub(super) fn simulated(simulated: Simulated) -> Self {
        Self::of(Arc::new(Sqlite::simulated(simulated)), WakeUps::default())
    }

    /// A journal in memory that never fails.
    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        let (disk, clock) = (Simulated::disk(), Arc::new(SystemTime::now));
        Self::simulated(Simulated { disk, clock, failing: Arc::new(|| false), commit_ms: 0 })
    }

    fn of(engine: Arc<dyn Engine>, wake_ups: WakeUps) -> Self {
        Self { engine, wake_ups, add_queue: FairQueue::new(), durations: DurationsByZone::default() }
    }

    /// Opens the shared journal in this PostgreSQL database, and creates its tables if they do not exist. If
    /// the database cannot be reached, this succeeds all the same, and calls fail until it can be reached.
    /// `tls` contains the trusted root certificates. Needs a Tokio runtime.
    ///
    /// # Errors
    /// Only errors that a retry cannot fix: the database refuses the login or the tables, or a later release
    /// created the tables.
    pub async fn connect(database: Database, tls: &ClientConfig) -> Result<Self, JournalError> {
        let wake_ups = WakeUps::default();
        let postgres = Postgres::connect(database, tls, wake_ups.clone()).await?;
        Ok(Self::of(Arc::new(postgres), wake_ups))
    }

    /// Adds jobs. When this returns, they are on disk, and the lanes of their zones were woken up. Many jobs are
    /// written in several transactions. The repository of the first job decides whose share of the writes they use.
    ///
    /// If a job exists already, it becomes due, parked or not, and the two are merged. The latest key replaces the
    /// earlier one, and a known size is kept. If two sizes differ, one of them is wrong, so neither is kept
    /// ([`Job::is_contradicted`]). A read mark, which is a size of 0, is kept ([`Job::must_read`]).
    ///
    /// # Errors
    /// A commit failed or took too long, or too many jobs wait to be written. Some of the jobs may then be queued, and
    /// some may not.
    pub async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        tokio::time::timeout(ADD_TIMEOUT, self.add_in_parts(jobs))
            .await
            .map_err(|_| JournalError::Slow { bound: ADD_TIMEOUT, waiting: self.add_queue.waiting() })?
    }

    async fn add_in_parts(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        let repository = jobs.first().and_then(|job| job.repository.clone()).unwrap_or_default();
        let mut left = jobs.len();
        let mut jobs = jobs.into_iter();
        while left > 0 {
            let rows = left.min(ROWS_PER_PERMIT);
            left -= rows;
            let _permit = self.add_queue.permit(&repository, rows, left).await?;
            self.add_part(jobs.by_ref().take(rows).collect()).await?;
        }
        Ok(())
    }

    async fn add_part(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        let mut zones: Vec<_> = jobs.iter().map(|job| Arc::clone(&job.target)).collect();
        self.engine.add(jobs).await?;
        zones.dedup();
        zones.iter().for_each(|zone| self.wake_ups.wake(zone));
        Ok(())
    }

    /// The [`Notify`] that is notified when there may be new work for a zone.
    #[must_use]
    pub fn wake_up(&self, zone: &Arc<str>) -> Arc<Notify> {
        self.wake_ups.of(zone)
    }

    /// Wakes the lane of a zone.
    pub(super) fn wake(&self, zone: &str) {
        self.wake_ups.wake(zone);
    }

    /// Claims a due job of a zone that is not parked and not in `under_way`. `claims` is the number of claims
    /// that the caller has made; it selects whether a small, an old or a failed job comes next
    /// (`claim_order.rs`). If the journal is shared, nobody else gets the job for [`LEASE`], or while
    /// [`Journal::renew_until_lost`] is awaited.
    ///
    /// If a job is due later than `longest_wait` from now, it was written by a clock that ran ahead, and
    /// counts as due. No [`Next::Wait`] is longer than `longest_wait`.
    ///
    /// If an earlier try of the job may have written and its end was not recorded, the object at the target
    /// must be read ([`Job::must_read`]). This happens if the process was killed, or if the journal could not
    /// be written.
    ///
    /// # Errors
    /// The journal cannot be read, or the lease cannot be written.
    pub async fn claim(
        &self,
        zone: &Arc<str>,
        claims: u32,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Result<Next, JournalError> {
        self.engine.claim(zone, claims, under_way, longest_wait).await
    }

    /// Like [`Journal::claim`], but claims only a job whose blob is stated to have 1 to `at_most` bytes. A
    /// stated size of 0 may mean any size ([`Job::must_read`]).
    ///
    /// # Errors
    /// The journal cannot be read, or the lease cannot be written.
    pub async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Result<Next, JournalError> {
        self.engine.claim_small(zone, at_most, under_way, longest_wait).await
    }

    /// Renews the lease of a job that was claimed at `claimed`, while this is awaited. Returns when somebody
    /// else may have the job. If the journal is not shared, it never returns.
    pub async fn renew_until_lost(&self, job: &Job, claimed: Instant) {
        self.engine.renew_until_lost(job, claimed).await;
    }

    /// Records that a try of a job may write to the target from now on. If the job is claimed again before the end of
    /// the try is recorded, its object must be read ([`Job::must_read`]). If the job has the read mark already, the try
    /// takes it. Unless the try ends with [`Journal::done`], the mark is put back.
    ///
    /// # Errors
    /// The commit failed or took too long. Nothing may then be written.
    pub(super) async fn begin(&self, job: &Job) -> Result<(), JournalError> {
        self.engine.begin(job).await
    }

    /// Ends the leases of a zone, so that others may claim its jobs at once.
    ///
    /// # Errors
    /// The commit failed or took too long. The leases then end by themselves after [`LEASE`].
    pub async fn release(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        self.engine.release(zone).await
    }

    /// Removes a job whose blob the target has. If the job was added again since it was claimed, it stays due, after
    /// the jobs that wait, and the next check of the target decides. It has the read mark only if one of these adds set
    /// it. If another replica has the job by now, nothing happens.
    ///
    /// # Errors
    /// The commit failed or took too long. The job may still exist, which does no harm.
    pub async fn done(&self, job: &Job) -> Result<(), JournalError> {
        self.remove(job, true).await
    }

    /// Removes a job whose blob nobody wants any more, like [`Journal::done`]. If the job stays and had the read mark,
    /// it keeps the mark.
    ///
    /// # Errors
    /// The errors of [`Journal::done`].
    pub async fn withdrawn(&self, job: &Job) -> Result<(), JournalError> {
        self.remove(job, false).await
    }

    async fn remove(&self, job: &Job, is_proven: bool) -> Result<(), JournalError> {
        if let Some(duration) = self.engine.done(job, is_proven).await? {
            self.durations.note(&job.target, duration);
        }
        Ok(())
    }

    /// Records that a job failed, and why, and makes it due again after `delay`. If it was added again since it was
    /// claimed, it is due at once, after the jobs that wait. If a write of the try may have made an object appear, or
    /// still may (`in_doubt`), the job gets the read mark ([`Job::must_read`]). If another replica has the job by now,
    /// nothing happens.
    ///
    /// # Errors
    /// The commit failed or took too long. The job then stays due, and its object must be read.
    pub async fn failed(
        &self,
        job: &Job,
        delay: Duration,
        error: &str,
        in_doubt: bool,
    ) -> Result<(), JournalError> {
        self.engine.failed(job, delay, &reason(error), in_doubt).await
    }

    /// Puts a job back whose try wrote nothing. Only its size changes. A read mark is kept ([`Job::must_read`]).
    ///
    /// # Errors
    /// The commit failed or took too long. The job then stays due.
    pub async fn defer(&self, job: &Job, size: FoundSize) -> Result<(), JournalError> {
        self.engine.resize(job, size).await?;
        self.engine.end_lease(job).await
    }

    /// Parks a job, with the reason and the time. Nobody claims it until it is added again. If it was added again since
    /// it was claimed, it stays due, after the jobs that wait. If another replica has the job by now, nothing happens.
    ///
    /// # Errors
    /// The commit failed or took too long. The job then stays due.
    pub async fn park(&self, job: &Job, why: &str) -> Result<(), JournalError> {
        self.engine.park(job, &reason(why)).await
    }

    /// Makes every job of a zone due that is not parked. Used when the zone has recovered.
    ///
    /// # Errors
    /// The commit failed or took too long.
    pub async fn make_due(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        self.engine.make_due(zone).await
    }

    /// Runs any change on the writer's connection of SQLite, for tests that disturb it.
    #[cfg(test)]
    pub(super) async fn write(
        &self,
        apply: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        self.engine.write_any(Box::new(apply) as Apply).await
    }
}
