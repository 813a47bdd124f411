//! The cache at one moment.

use blob_cache::CacheStatus;
use serde::{Deserialize, Serialize};

use super::traffic::TrafficReport;

/// The cache at one moment, and how often it had a blob. Counts are those since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheReport {
    /// Blobs that are kept or being filled.
    pub blobs: u64,
    /// The bytes of these blobs, in whole disk blocks.
    pub bytes: u64,
    /// The bytes that it may hold.
    pub capacity: u64,
    /// Fills in progress.
    pub fills: u64,
    /// The bytes of pinned blobs, in whole disk blocks.
    #[serde(default)]
    pub pinned: u64,
    /// The most bytes that pinned blobs may have.
    #[serde(default)]
    pub pinned_max: u64,
    /// Bodies of blobs that came from the cache.
    pub hits: u64,
    /// Bodies of blobs that came from elsewhere.
    pub misses: u64,
    /// The bytes that clients got from the cache.
    pub hit_bytes: u64,
    /// The bytes that clients got from elsewhere.
    pub miss_bytes: u64,
}

impl CacheReport {
    /// Creates the report from the state of the cache and from what clients got.
    #[must_use]
    pub fn new(status: CacheStatus, traffic: &TrafficReport) -> Self {
        let (hits, misses) = traffic.split(|source| source.bodies);
        let (hit_bytes, miss_bytes) = traffic.split(|source| source.bytes);
        Self {
            blobs: status.blobs,
            bytes: status.bytes,
            capacity: status.capacity,
            fills: status.fills as u64,
            pinned: status.pinned,
            pinned_max: status.pinned_max,
            hits,
            misses,
            hit_bytes,
            miss_bytes,
        }
    }
}
