//! The blobs of the cache that stand out.

use blob_cache::{CachedBlobFacts, Census};
use serde::{Deserialize, Serialize};

/// The blobs of the cache that stand out. The lists are short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheBlobsReport {
    /// The largest blobs, the largest first.
    pub largest: Vec<CacheBlobReport>,
    /// The most used blobs, the most used first.
    pub hottest: Vec<CacheBlobReport>,
}

/// A blob of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheBlobReport {
    /// The digest.
    pub digest: String,
    /// The size in bytes.
    pub size: u64,
    /// How often it was looked up since it came into the cache, or since the start.
    pub uses: u64,
}

impl CacheBlobsReport {
    /// Creates the report from a census.
    #[must_use]
    pub fn new(census: &Census) -> Self {
        let all = |facts: &[CachedBlobFacts]| facts.iter().map(CacheBlobReport::new).collect();
        Self { largest: all(&census.largest), hottest: all(&census.hottest) }
    }
}

impl CacheBlobReport {
    fn new(facts: &CachedBlobFacts) -> Self {
        Self { digest: facts.digest.to_string(), size: facts.size, uses: facts.uses }
    }
}
