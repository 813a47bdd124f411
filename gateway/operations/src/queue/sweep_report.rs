//! The progress of the sweep as JSON, which the admin API sends and the command line reads.

use serde::{Deserialize, Serialize};

/// The progress of the sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Whether the gateway sweeps. That needs a service account, target zones, and `replication.sweep.enabled`.
    pub enabled: bool,
    /// Whether a round is in progress.
    pub under_way: bool,
    /// Rounds that ended since the gateway started.
    pub rounds: u64,
    /// Seconds since the latest round began, if there was one.
    pub began_seconds: Option<u64>,
    /// Seconds since the latest round ended, if it did.
    pub ended_seconds: Option<u64>,
    /// Repositories that the round has finished.
    pub repositories: u64,
    /// The last of those repositories.
    pub repository: Option<String>,
    /// Manifests whose blobs were examined.
    pub manifests: u64,
    /// Copies that were queued. Most of them find the blob in the target zone.
    pub jobs: u64,
    /// Lists and manifests that could not be read.
    pub skipped: u64,
    /// Why the round cannot continue now, if it cannot. It is retried.
    pub error: Option<String>,
}
