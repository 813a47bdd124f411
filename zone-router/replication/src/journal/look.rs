//! What operators ask of the journal, and tell it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use backends::reason;

use super::{Engine, Journal, JournalError};

/// Jobs that one request shows, or changes, at most.
pub const JOBS_SHOWN: u32 = 1000;

/// Ages that waiting jobs are counted by, seconds.
pub const AGES: [u32; 10] = [1, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400];

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits, or is under way, and no try has failed.
    Waiting,
    /// A try has failed; it is tried again.
    Failing,
    /// It is set aside until somebody asks for it again.
    Parked,
}

impl State {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Parked => "parked",
        }
    }

    /// As the statements have it.
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
    /// Its bytes, if anyone said.
    pub size: Option<u64>,
    /// Where it was seen, the latest first.
    pub repositories: Vec<String>,
    /// When it was first added.
    pub since: SystemTime,
    /// When it is tried next, unless it is parked.
    pub due: SystemTime,
    /// Failed tries.
    pub attempts: u32,
    /// When the last of them was.
    pub failed: Option<SystemTime>,
    /// Why it failed, or was parked.
    pub error: Option<String>,
    /// Since when it is parked.
    pub parked: Option<SystemTime>,
}

impl JobView {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.parked, self.failed) {
            (Some(_), _) => State::Parked,
            (None, Some(_)) => State::Failing,
            (None, None) => State::Waiting,
        }
    }
}

/// Which jobs are shown, by zone and digest.
#[derive(Debug, Default, Clone)]
pub struct Shown {
    /// Of this zone alone.
    pub zone: Option<Arc<str>>,
    /// That stand so.
    pub state: Option<State>,
    /// Beyond this zone and digest: how the next page begins.
    pub after: Option<(String, String)>,
    /// How many; [`JOBS_SHOWN`] at most.
    pub limit: u32,
}

/// Which jobs are changed.
#[derive(Debug, Clone)]
pub struct Which {
    /// Of these zones.
    pub zones: Vec<Arc<str>>,
    /// Of these blobs, [`JOBS_SHOWN`] at most, or of all.
    pub digests: Option<Vec<Digest>>,
    /// That stand so.
    pub state: Option<State>,
}

/// The waiting jobs of a zone by their age.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Ages {
    /// For each of [`AGES`], how many are no older.
    pub up_to: [u64; AGES.len()],
    /// All of them.
    pub jobs: u64,
    /// Their ages together, seconds.
    pub seconds: f64,
}

/// Blobs that have jobs, by the zones that they are still to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// The zones: bit by bit, in the order in which they were asked for.
    pub zones: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes, as far as known.
    pub bytes: u64,
}

impl Journal {
    /// How many jobs of a zone are not parked, counted up to `at_most`.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Result<u64, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.depth(zone, at_most).await,
            Engine::Postgres(postgres) => postgres.depth(zone, at_most).await,
        }
    }

    /// Jobs by zone and digest, a page of them.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn jobs(&self, mut shown: Shown) -> Result<Vec<JobView>, JournalError> {
        shown.limit = shown.limit.min(JOBS_SHOWN);
        if let (Some(zone), None) = (&shown.zone, &shown.after) {
            // Digests are not empty: all of its jobs come after this.
            shown.after = Some((zone.to_string(), String::new()));
        }
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.jobs(shown).await,
            Engine::Postgres(postgres) => postgres.jobs(&shown).await,
        }
    }

    /// The jobs of one blob in these zones.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn jobs_of(&self, digest: &Digest, zones: &[Arc<str>]) -> Result<Vec<JobView>, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.jobs_of(digest, zones).await,
            Engine::Postgres(postgres) => postgres.jobs_of(digest, zones).await,
        }
    }

    /// Makes jobs due that are parked or sit out a wait; how many. Those that are due anyway are left.
    ///
    /// # Errors
    /// A commit failed or was late; some may be due, and some not.
    pub async fn retry(&self, which: &Which) -> Result<u64, JournalError> {
        let changed = match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.retry(which).await,
            Engine::Postgres(postgres) => postgres.retry(which).await,
        };
        which.zones.iter().for_each(|zone| self.bells.ring(zone));
        changed
    }

    /// Sets jobs of these blobs aside until somebody asks for them again, and keeps why; how many. One
    /// that is under way is finished all the same.
    ///
    /// # Errors
    /// The commit failed or was late.
    pub async fn set_aside(
        &self,
        digests: &[Digest],
        zones: &[Arc<str>],
        why: &str,
    ) -> Result<u64, JournalError> {
        let why = reason(why);
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.set_aside(digests, zones, why).await,
            Engine::Postgres(postgres) => postgres.set_aside(digests, zones, &why).await,
        }
    }

    /// The waiting jobs of every zone by their age; reads every job.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn ages(&self) -> Result<BTreeMap<Arc<str>, Ages>, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.ages().await,
            Engine::Postgres(postgres) => postgres.ages().await,
        }
    }

    /// Blobs by which of these zones, 63 at most, they have jobs for, parked or not; reads every job.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn outstanding(&self, zones: &[Arc<str>]) -> Result<Vec<Outstanding>, JournalError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.outstanding(zones).await,
            Engine::Postgres(postgres) => postgres.outstanding(zones).await,
        }
    }

    /// How long jobs took that this process did, from when they were added, by their zones.
    #[must_use]
    pub fn finished(&self) -> BTreeMap<Arc<str>, Took> {
        self.finished.all()
    }
}

/// Seconds that finished jobs are counted by.
pub const TOOK: [f64; 16] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
    604_800.0,
];

/// Finished jobs by how long they took from when they were added.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Took {
    /// For each of [`TOOK`], how many took no longer.
    pub up_to: [u64; TOOK.len()],
    /// All of them.
    pub jobs: u64,
    /// Their times together, seconds.
    pub seconds: f64,
}

impl Took {
    pub(super) fn note(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (count, bound) in self.up_to.iter_mut().zip(TOOK) {
            *count += u64::from(seconds <= bound);
        }
        self.jobs += 1;
        self.seconds += seconds;
    }
}
