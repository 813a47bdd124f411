//! The durable list of copies still to be made.
//!
//! Two engines keep it: an SQLite file for one gateway, and PostgreSQL for several that share the
//! work. What they promise is the same: an added job is on the disk when [`Journal::add`] returns,
//! and leaves only when it was done after it was last added.

mod bells;
mod error;
mod fair;
mod finished;
mod look;
mod postgres;
mod sqlite;
mod turn;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use backends::reason;
use postgres_connection::Database;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use error::JournalError;
pub use look::{AGES, Ages, JOBS_SHOWN, JobView, Outstanding, Shown, State, TOOK, Took, Which};
pub use postgres::LEASE;
#[cfg(test)]
pub(super) use sqlite::Simulated;

use super::job::{Job, NewJob};
use bells::Bells;
use fair::{Fair, ROWS_PER_TURN};
use finished::Finished;
use postgres::Postgres;
use sqlite::Sqlite;

/// How long jobs wait to be written. Neither a disk that hangs nor what others push must hang a push.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a lane has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This job, now.
    Job(Job),
    /// Nothing for so long, unless a bell rings.
    Wait(Duration),
}

/// The jobs of one target zone, counted; those that are parked apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The target zone.
    pub zone: Arc<str>,
    /// Jobs waiting or under way.
    pub jobs: u64,
    /// Their bytes, as far as known.
    pub bytes: u64,
    /// When the oldest of them was added.
    pub oldest: Option<SystemTime>,
    /// How many of them have failed at least once.
    pub failing: u64,
    /// Their failed tries in all.
    pub attempts: u64,
    /// Why the latest failed try failed.
    pub last_error: Option<String>,
    /// Jobs set aside.
    pub parked: u64,
    /// Their bytes, as far as known.
    pub parked_bytes: u64,
}

impl Count {
    /// Of a zone without jobs.
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

/// A handle on the journal. What keeps it ends with the last handle.
#[derive(Debug, Clone)]
pub struct Journal {
    engine: Engine,
    bells: Bells,
    fair: Fair,
    finished: Finished,
}

#[derive(Debug, Clone)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Arc<Postgres>),
}

impl Journal {
    /// Opens the journal in this file, or creates it (mode 0600, its folder must exist).
    ///
    /// # Errors
    /// The file cannot be made, is no database, or a later release wrote it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let engine = Engine::Sqlite(Sqlite::open(path)?);
        Ok(Self::of(engine, Bells::default()))
    }

    /// On a disk that is none: for simulation.
    #[cfg(test)]
    pub(super) fn simulated(simulated: sqlite::Simulated) -> Self {
        Self::of(Engine::Sqlite(Sqlite::simulated(simulated)), Bells::default())
    }

    fn of(engine: Engine, bells: Bells) -> Self {
        Self { engine, bells, fair: Fair::new(), finished: Finished::default() }
    }

    /// Shares the journal in this database, making its tables if they are not there. A database
    /// that is away is waited for while everything else goes on. `tls` says whose certificates are
    /// trusted. Needs a Tokio runtime.
    ///
    /// # Errors
    /// What does not mend itself: the database does not let us in or refuses our tables, or a later
    /// release made them.
    pub async fn connect(database: Database, tls: &ClientConfig) -> Result<Self, JournalError> {
        let bells = Bells::default();
        let postgres = Postgres::connect(database, tls, bells.clone()).await?;
        Ok(Self::of(Engine::Postgres(Arc::new(postgres)), bells))
    }

    /// Adds jobs. When it returns, they are on the disk, and whoever works on their zones is told.
    /// They are written piece by piece, each piece whole or not at all; the repository of the first is
    /// the one whose turns they take.
    ///
    /// A job that is there already is made due, parked or not, and merged: the latest key holds, and the
    /// known size. Two sizes that differ become 0 ([`Job::must_read`]), which stays: one of them is wrong.
    ///
    /// # Errors
    /// A commit failed or was late, or too much is being added; then some may be queued and some not.
    pub async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        tokio::time::timeout(PATIENCE, self.add_in_turns(jobs))
            .await
            .map_err(|_| JournalError::Slow { bound: PATIENCE, waiting: self.fair.waiting() })?
    }

    async fn add_in_turns(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        let repository = jobs.first().and_then(|job| job.repository.clone()).unwrap_or_default();
        let mut left = jobs.len();
        let mut jobs = jobs.into_iter();
        while left > 0 {
            let rows = left.min(ROWS_PER_TURN);
            left -= rows;
            let _turn = self.fair.turn(&repository, rows, left).await?;
            self.write_jobs(jobs.by_ref().take(rows).collect()).await?;
        }
        Ok(())
    }

    async fn write_jobs(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        let mut zones: Vec<_> = jobs.iter().map(|job| Arc::clone(&job.target)).collect();
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.add(jobs).await?,
            Engine::Postgres(postgres) => postgres.add(jobs).await?,
        }
        zones.dedup();
        zones.iter().for_each(|zone| self.bells.ring(zone));
        Ok(())
    }

    /// Rings when there may be new work for a zone.
    #[must_use]
    pub fn bell(&self, zone: &Arc<str>) -> Arc<Notify> {
        self.bells.of(zone)
    }

    /// A due job of a zone that is none of `under_way` and not parked, as [turns](turn) have it; `turn` counts
    /// them. Where the journal is shared, nobody else gets it for [`LEASE`], or as long as
    /// [`Journal::hold`] is waited for.
    ///
    /// A job due later than `horizon` from now, the longest wait there is, was written by a clock
    /// that ran ahead, and counts as due. No wait is longer than `horizon`.
    ///
    /// # Errors
    /// The journal cannot be read, or the lease not be written.
    pub async fn claim(
        &self,
        zone: &Arc<str>,
        turn: u32,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.next(zone, turn, under_way, horizon).await,
            Engine::Postgres(postgres) => postgres.claim(zone, turn, under_way, horizon).await,
        }
    }

    /// A due job of a zone that is none of `under_way`, and whose blob is said to have `at_most` so many
    /// bytes, and more than none, which may mean any size ([`Job::must_read`]). Else as [`Journal::claim`].
    ///
    /// # Errors
    /// The journal cannot be read, or the lease not be written.
    pub async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.next_small(zone, at_most, under_way, horizon).await,
            Engine::Postgres(postgres) => postgres.claim_small(zone, at_most, under_way, horizon).await,
        }
    }

    /// Holds a job that was asked for at `claimed`; returns when somebody else may have it.
    pub async fn hold(&self, job: &Job, claimed: Instant) {
        match &self.engine {
            // Nobody else is there.
            Engine::Sqlite(_) => std::future::pending().await,
            Engine::Postgres(postgres) => postgres.hold(job, claimed).await,
        }
    }

    /// Leaves the claimed jobs of a zone to others, as at the end of a lane.
    ///
    /// # Errors
    /// The commit failed or was late; then they are left when their leases end.
    pub async fn release(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(postgres) => postgres.release(zone).await,
        }
    }

    /// Removes a job, unless it was added again since it was claimed: then it stays due, and a look
    /// at the target settles it. Nothing happens where somebody else has it by now.
    ///
    /// # Errors
    /// The commit failed or was late; the job may still be there, which does no harm.
    pub async fn done(&self, job: &Job) -> Result<(), JournalError> {
        let took = match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.done(job).await?,
            Engine::Postgres(postgres) => postgres.done(job).await?,
        };
        if let Some(took) = took {
            self.finished.note(&job.target, took);
        }
        Ok(())
    }

    /// Keeps that a job failed, and why, and makes it due again after `delay`; at once if it was
    /// added again since it was claimed. Nothing happens where somebody else has it by now.
    ///
    /// # Errors
    /// The commit failed or was late; the job then stays due.
    pub async fn failed(&self, job: &Job, delay: Duration, error: &str) -> Result<(), JournalError> {
        let error = reason(error);
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.failed(job, delay, error).await,
            Engine::Postgres(postgres) => postgres.failed(job, delay, &error).await,
        }
    }

    /// Keeps that what lies at the target is to be read and hashed before this job is done
    /// ([`Job::must_read`]). Nothing happens where somebody else has it by now.
    ///
    /// # Errors
    /// The commit failed or was late.
    pub async fn doubt(&self, job: &Job) -> Result<(), JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.resize(job, 0).await,
            Engine::Postgres(postgres) => postgres.resize(job, 0).await,
        }
    }

    /// Leaves a job as it was before it was claimed, but for its size, in bytes: a size of 0 stays, and holds
    /// ([`Job::must_read`]).
    ///
    /// # Errors
    /// The commit failed or was late; the job then stays due.
    pub async fn give_back(&self, job: &Job, size: u64) -> Result<(), JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.resize(job, size).await,
            Engine::Postgres(postgres) => {
                postgres.resize(job, size).await?;
                postgres.give_back(&job.target, Some(job.blob.digest.to_string())).await
            }
        }
    }

    /// Sets a job aside, and keeps why and when: nobody claims it until it is added again. It stays
    /// due if that happened since it was claimed. Nothing happens where somebody else has it by now.
    ///
    /// # Errors
    /// The commit failed or was late; the job then stays due.
    pub async fn park(&self, job: &Job, why: &str) -> Result<(), JournalError> {
        let why = reason(why);
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.park(job, why).await,
            Engine::Postgres(postgres) => postgres.park(job, &why).await,
        }
    }

    /// Makes every job of a zone due that is not parked, as when the zone has come back.
    ///
    /// # Errors
    /// The commit failed or was late.
    pub async fn hasten(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.hasten(zone).await,
            Engine::Postgres(postgres) => postgres.hasten(zone).await,
        }
    }

    /// The jobs of every zone that has any, by the zones' names.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn counts(&self) -> Result<Vec<Count>, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.counts().await,
            Engine::Postgres(postgres) => postgres.counts().await,
        }
    }

    /// Any change to SQLite's file, for tests that spoil it.
    #[cfg(test)]
    pub(super) async fn write(
        &self,
        apply: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(apply).await,
            Engine::Postgres(_) => panic!("not SQLite"),
        }
    }
}
