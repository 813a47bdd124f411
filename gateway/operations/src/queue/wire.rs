//! What commands and the admin side say to each other, as JSON.

use serde::{Deserialize, Serialize};

/// Copies that one request may queue.
pub const JOBS_MAX: usize = 1000;

/// Copies that may wait for a zone before the admin side takes more, whatever a command says.
pub const BACKLOG_MAX: u64 = 100_000;

/// Copies to be queued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Add {
    /// None are queued if so many wait for one of their zones; up to [`BACKLOG_MAX`].
    pub backlog: u64,
    /// The copies, [`JOBS_MAX`] at most.
    pub jobs: Vec<AddJob>,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddJob {
    /// `sha256:…`
    pub digest: String,
    /// The zone that shall have it.
    pub zone: String,
    /// Its bytes, if they are known; a hint.
    pub size: Option<u64>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// They are in the journal.
    Queued,
    /// Too many wait, and where: the same request succeeds later.
    Full(String),
}

/// Jobs to be tried again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retry {
    /// Of this zone, or of all.
    pub zone: Option<String>,
    /// Of these blobs, [`JOBS_MAX`] at most, or of all.
    pub digests: Option<Vec<String>>,
    /// `failing`, `parked`, or either.
    pub state: Option<String>,
}

/// Jobs to be set aside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Park {
    /// Of this zone, or of all.
    pub zone: Option<String>,
    /// Of these blobs, [`JOBS_MAX`] at most.
    pub digests: Vec<String>,
    /// Why.
    pub reason: String,
}

/// How many jobs were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// So many.
    pub jobs: u64,
}
