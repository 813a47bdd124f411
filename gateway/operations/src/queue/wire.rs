//! The JSON messages between commands and the admin API.

use serde::{Deserialize, Serialize};

/// The most copies that one request may queue.
pub const JOBS_MAX: usize = 1000;

/// The most pending copies of a zone with which the admin API still accepts more, whatever `backlog` says.
pub const BACKLOG_MAX: u64 = 100_000;

/// The copies to queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Add {
    /// If one of the zones has this many pending copies, none are queued; [`BACKLOG_MAX`] at most.
    pub backlog: u64,
    /// The copies, [`JOBS_MAX`] at most.
    pub jobs: Vec<AddJob>,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddJob {
    /// `sha256:…`
    pub digest: String,
    /// The target zone.
    pub zone: String,
    /// The size in bytes, if it is known. It is a hint.
    pub size: Option<u64>,
}

/// The result of a request to queue copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// The copies are in the journal.
    Queued,
    /// A zone has too many pending copies; the text names it. Retry later.
    Full(String),
}

/// The jobs to make due now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retry {
    /// Only jobs of this zone.
    pub zone: Option<String>,
    /// Only jobs of these blobs, [`JOBS_MAX`] at most.
    pub digests: Option<Vec<String>>,
    /// Only jobs in this state, `failing` or `parked`.
    pub state: Option<String>,
}

/// The jobs to park.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Park {
    /// Only jobs of this zone.
    pub zone: Option<String>,
    /// The blobs, [`JOBS_MAX`] at most.
    pub digests: Vec<String>,
    /// The reason, which is shown with the job.
    pub reason: String,
}

/// The number of jobs that a command changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The number.
    pub jobs: u64,
}
