//! How far the sweep is, as the admin side tells it and the command line reads it.

use serde::{Deserialize, Serialize};

/// The sweep as the admin side tells it and the command line reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Whether there is one: it takes an account, targets, and `replication.sweep.enabled`.
    pub enabled: bool,
    /// Whether a round is under way.
    pub under_way: bool,
    /// Rounds that ended since this gateway's start.
    pub rounds: u64,
    /// Seconds since the latest round began, if one ever did.
    pub began_seconds: Option<u64>,
    /// Seconds since it ended, if it did.
    pub ended_seconds: Option<u64>,
    /// Repositories done in it.
    pub repositories: u64,
    /// The last of them.
    pub repository: Option<String>,
    /// Manifests whose blobs were looked at.
    pub manifests: u64,
    /// Copies that were queued; most find the blob in its place.
    pub jobs: u64,
    /// Lists and manifests that were not had.
    pub skipped: u64,
    /// Why it cannot go on just now, if it cannot; it is tried again.
    pub error: Option<String>,
}
