//! What clients got, by where it came from.

use serde::{Deserialize, Serialize};

/// The source of a blob that is in the cache.
pub const HIT: &str = "hit";

/// What clients got since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Requests that were answered.
    pub requests: u64,
    /// Where the bodies of blobs came from, sorted by name.
    pub sources: Vec<SourceReport>,
}

/// What clients got from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// [`HIT`], `zone=NAME`, `registry` or `registry-redirect`.
    pub source: String,
    /// Bodies of blobs that were begun.
    pub bodies: u64,
    /// Their bytes that were sent.
    pub bytes: u64,
}

impl TrafficReport {
    /// The sum of a count over the cache, and over all other sources.
    #[must_use]
    pub fn split(&self, count: impl Fn(&SourceReport) -> u64) -> (u64, u64) {
        self.sources.iter().fold((0, 0), |(hits, misses), source| match source.source == HIT {
            true => (hits + count(source), misses),
            false => (hits, misses + count(source)),
        })
    }
}
