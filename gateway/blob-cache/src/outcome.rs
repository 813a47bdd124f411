//! What the cache says.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zone_router::NotOpened;

use super::files::{Disk, read_blocking, read_cached};
use super::fill::Opened;
use super::follower::Follower;
use gateway_http::piece_limit;

/// What became of a look.
pub enum Lookup {
    /// Here it is.
    Hit(CachedBlob),
    /// It is not here, or not to be trusted yet.
    Absent,
    /// It is here, but the disk fails.
    Unusable,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

/// A blob's file, open: whole and proven, unless it belongs to a fill.
#[derive(Debug, Clone)]
pub struct CachedBlob {
    /// The open file; eviction unlinks it, and what is open stays readable.
    pub file: Arc<File>,
    /// Its size in bytes.
    pub size: u64,
    /// The threads that read files.
    pub disk: Disk,
}

impl CachedBlob {
    /// The next bytes of `left`, if the page cache has them; else [`CachedBlob::read_from_disk`].
    pub(super) fn read_now(&self, left: &Range<u64>) -> io::Result<Option<Bytes>> {
        read_cached(&self.file, left.start, piece(left))
    }

    /// The next bytes of `left`, waiting for the disk.
    pub(super) fn read_from_disk(
        &self,
        left: &Range<u64>,
    ) -> impl Future<Output = io::Result<Bytes>> + Send + use<> {
        let (file, disk) = (Arc::clone(&self.file), self.disk.clone());
        let (offset, len) = (left.start, piece(left));
        async move { disk.run(move || read_blocking(&file, offset, len)).await }
    }
}

/// Bytes of one read: as many as whoever polls for them may take.
fn piece(left: &Range<u64>) -> usize {
    usize::try_from(left.end - left.start).unwrap_or(usize::MAX).min(piece_limit())
}

/// What became of a miss.
pub enum Filled {
    /// It came in meanwhile.
    Hit(CachedBlob),
    /// It is on its way in, and can be read behind the writer. `true` if another client's fill.
    Following(Follower, bool),
    /// It is not kept, for this reason; here is the stream for this client alone.
    Alone(Opened, NotKept),
    /// No zone gave it.
    NotOpened(Arc<NotOpened>),
    /// The fill broke before its first byte.
    Broken(String),
}

impl std::fmt::Debug for Filled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filled").finish_non_exhaustive()
    }
}

/// Why a blob is streamed past the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// It is larger than the cache.
    TooLarge,
    /// The disk has no room above the reserve, or fails.
    Disk,
    /// As many fills as allowed are under way.
    Busy,
    /// Its size is not known beforehand.
    UnknownSize,
    /// The cache is full, and a single request displaces nothing.
    AskedOnce,
}

impl NotKept {
    /// A word for `Cache-Status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Disk => "disk",
            Self::Busy => "busy",
            Self::UnknownSize => "unknown-size",
            Self::AskedOnce => "asked-once",
        }
    }
}

/// The cache at a glance.
#[derive(Debug, Clone, Copy)]
pub struct CacheStatus {
    /// Blobs kept or on their way in.
    pub blobs: u64,
    /// Their bytes, in whole disk blocks.
    pub bytes: u64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Fills under way.
    pub fills: usize,
}
