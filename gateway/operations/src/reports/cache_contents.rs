//! What operators see of the contents of the cache, and what they do with them.

use std::time::SystemTime;

use blob_cache::ListedBlob;
use serde::{Deserialize, Serialize};

/// A page of the contents of the cache, in the order of their last use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePage {
    /// The blobs. One that is used meanwhile may come again on a later page.
    pub blobs: Vec<CachedReport>,
    /// The `after` of the next page, if there may be one.
    pub next: Option<u64>,
}

/// A blob of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedReport {
    /// The digest.
    pub digest: String,
    /// The size in bytes.
    pub size: u64,
    /// How often it was looked up since it came into the cache, or since the start.
    pub uses: u64,
    /// Whether it is pinned, so that it is not evicted.
    pub pinned: bool,
    /// Whether it may be served. After a reboot, it is hashed first.
    pub proven: bool,
    /// Seconds since it was last used or, before that, written.
    pub unused_seconds: u64,
}

/// The command to evict blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evict {
    /// The digests, at most 1000.
    pub digests: Vec<String>,
}

/// What an eviction did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evictions {
    /// The blobs that are not in the cache any more.
    pub evicted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The blobs that stay because they are pinned.
    pub pinned: u64,
    /// The blobs that were not there.
    pub absent: u64,
}

/// The command to hash a blob's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The digest.
    pub digest: String,
}

/// The result of hashing a blob's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedReport {
    /// The digest.
    pub digest: String,
    /// `right`, `wrong` (it is removed), `absent` or `unreadable`.
    pub verdict: String,
    /// Why it is unreadable.
    pub error: Option<String>,
}

/// The result of an import of one blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The digest.
    pub digest: String,
    /// The size in bytes.
    pub size: u64,
    /// Whether the cache did not have it before.
    pub new: bool,
}

impl CachePage {
    /// Creates the page of `most` blobs from what the cache lists.
    #[must_use]
    pub fn new(listed: &[(u64, ListedBlob)], most: usize, now: SystemTime) -> Self {
        let next = listed.last().map(|(place, _)| *place).filter(|_| listed.len() >= most);
        let blobs = listed.iter().map(|(_, blob)| CachedReport {
            digest: blob.digest.to_string(),
            size: blob.size,
            uses: blob.uses,
            pinned: blob.pinned,
            proven: blob.proven,
            unused_seconds: now.duration_since(blob.used_at).unwrap_or_default().as_secs(),
        });
        Self { blobs: blobs.collect(), next }
    }
}

impl Evictions {
    /// Adds what another command did.
    pub fn add(&mut self, other: Self) {
        self.evicted += other.evicted;
        self.bytes += other.bytes;
        self.pinned += other.pinned;
        self.absent += other.absent;
    }
}
