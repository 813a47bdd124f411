//! The two traits that the engines of the journal, SQLite and PostgreSQL, implement.
//!
//! [`Journal`](super::Journal) documents what every method promises, checks its arguments and wakes the
//! lanes. An engine only stores. Reasons are already bounded and free of control characters here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::Digest;
use tokio::time::Instant;

use super::super::job::{FoundSize, Job, NewJob};
use super::{Ages, Count, JobQuery, JobSelection, JobView, JournalError, Next, Outstanding};

/// The result of an engine's method.
pub(super) type Answer<T> = Result<T, JournalError>;

/// The methods that pushes and lanes need.
#[async_trait]
pub(super) trait Engine: Inspect {
    /// Adds jobs in one transaction.
    async fn add(&self, jobs: Vec<NewJob>) -> Answer<()>;

    /// Claims a due job of any size. If there is none, returns how long to wait for one.
    async fn claim(
        &self,
        zone: &Arc<str>,
        claims: u32,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next>;

    /// Claims a due job of at most `at_most` bytes. If there is none, returns how long to wait for one.
    async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next>;

    /// Renews the lease of a job. Returns when the lease is lost, or may be lost. An engine that is not shared has no
    /// leases.
    async fn renew_until_lost(&self, _job: &Job, _claimed: Instant) {
        std::future::pending().await
    }

    /// Ends the leases of a zone.
    async fn release(&self, _zone: &Arc<str>) -> Answer<()> {
        Ok(())
    }

    /// Records that a try of a job may write from now on. If the job has the read mark, the try takes it. An engine
    /// with leases has done both with the claim.
    async fn begin(&self, _job: &Job) -> Answer<()> {
        Ok(())
    }

    /// Removes a job. Returns how long ago it was first added, or `None` if it stays. A job that was added again stays.
    /// It then has the read mark if an add since the beginning of its try set it, or if it had the mark before and the
    /// object at the target is not proven (`is_proven`).
    async fn done(&self, job: &Job, is_proven: bool) -> Answer<Option<Duration>>;

    /// Records a failed try and when to try again. If the try is in doubt, sets the read mark (size 0).
    async fn failed(&self, job: &Job, delay: Duration, error: &str, in_doubt: bool) -> Answer<()>;

    /// Records that a try ended without a write, and sets the size of its job. A read mark and contradicted sizes are
    /// kept.
    async fn resize(&self, job: &Job, size: FoundSize) -> Answer<()>;

    /// Ends the lease of one job. An engine that is not shared has no leases.
    async fn end_lease(&self, _job: &Job) -> Answer<()> {
        Ok(())
    }

    /// Parks a job.
    async fn park(&self, job: &Job, why: &str) -> Answer<()>;

    /// Makes every job of a zone due that is not parked.
    async fn make_due(&self, zone: &Arc<str>) -> Answer<()>;

    /// Runs any change on the writer's connection of SQLite, for tests that disturb it.
    #[cfg(test)]
    async fn write_any(&self, _apply: super::sqlite::Apply) -> Answer<()> {
        panic!("this journal is not in SQLite")
    }
}

/// The methods that operators and metrics need.
#[async_trait]
pub(super) trait Inspect: fmt::Debug + Send + Sync {
    /// Counts the jobs of every zone that has any.
    async fn counts(&self) -> Answer<Vec<Count>>;

    /// Counts the jobs of a zone that are not parked, up to `at_most`.
    async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Answer<u64>;

    /// One page of jobs.
    async fn jobs(&self, query: JobQuery) -> Answer<Vec<JobView>>;

    /// The jobs of one blob in these zones.
    async fn jobs_of(&self, digest: &Digest, zones: &[Arc<str>]) -> Answer<Vec<JobView>>;

    /// Makes jobs due that are parked or wait. Returns their number.
    async fn retry(&self, selection: &JobSelection) -> Answer<u64>;

    /// Parks the jobs of these blobs. Returns their number.
    async fn park_blobs(&self, digests: &[Digest], zones: &[Arc<str>], why: &str) -> Answer<u64>;

    /// The waiting jobs of every zone by their age.
    async fn ages(&self) -> Answer<BTreeMap<Arc<str>, Ages>>;

    /// Counts blobs by the set of these zones for which they have jobs.
    async fn outstanding(&self, zones: &[Arc<str>]) -> Answer<Vec<Outstanding>>;
}
