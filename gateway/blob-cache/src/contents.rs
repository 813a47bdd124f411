//! What operators do with the contents of the cache: list, verify, evict, pin.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use limits::pool::Identity;

use crate::cache::Cache;
use crate::cleanup::Cleanup;
use crate::entry::{self, Entry};

/// A blob of the cache, as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedBlob {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// How often it was looked up since it came into the cache, or since the start.
    pub uses: u64,
    /// Whether it is pinned, so that it is not evicted.
    pub pinned: bool,
    /// Whether it may be served. After a reboot, it must be hashed first.
    pub proven: bool,
    /// When it was last used or, before that, written.
    pub used_at: SystemTime,
}

/// The result of an eviction by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// The blob of this many bytes is not in the cache any more.
    Gone(u64),
    /// It is pinned, so it stays.
    Pinned,
    /// It was not there.
    Absent,
}

/// The result of hashing a blob's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are right.
    Right,
    /// The bytes are wrong. The blob is removed.
    Wrong,
    /// The blob is not here.
    Absent,
    /// The file could not be read now, for this reason. The blob stays.
    Unreadable(String),
}

impl Cache {
    /// At most `most` blobs in the order of their last use, each with its place in that order, from the place after `after`
    /// on. A blob that is used meanwhile moves to the end, and may come twice.
    #[must_use]
    pub fn list(&self, after: Option<u64>, most: usize) -> Vec<(u64, ListedBlob)> {
        self.space.lock().index().listed(after, most)
    }

    /// Takes a blob out of the cache, unless it is pinned. A client that reads it reads on. Its file is removed soon.
    pub fn evict(&self, digest: &Digest) -> Evicted {
        let mut space = self.space.lock();
        let Some(size) = space.index().peek(digest).map(|entry| entry.size) else { return Evicted::Absent };
        if space.index().is_pinned(digest) {
            return Evicted::Pinned;
        }
        space.index().remove(digest);
        self.cleanups.push(Cleanup::Evicted(*digest));
        Evicted::Gone(size)
    }

    /// Pins these blobs, as far as they are here and have room, and unpins all others. Those that are not here are pinned
    /// when they come, and may evict others. Returns those that are here and have no room among the pinned ones now.
    pub fn set_pins(&self, wanted: HashSet<Digest>) -> Vec<Digest> {
        self.space.lock().set_pins(wanted)
    }

    /// Whether a blob is here and pinned.
    #[must_use]
    pub fn is_pinned(&self, digest: &Digest) -> bool {
        self.space.lock().index().is_pinned(digest)
    }

    /// The most bytes that pinned blobs may have together.
    #[must_use]
    pub fn pinned_max(&self) -> u64 {
        entry::bytes(self.space.lock().pinned_max())
    }

    /// Hashes a blob's file. The blob is served meanwhile. If its bytes are wrong, it is taken out of the cache, and its
    /// file is removed. The lookup does not count as a use.
    pub async fn verify(self: &Arc<Self>, digest: &Digest) -> Verdict {
        let Some(entry) = self.space.lock().index().peek(digest).cloned() else { return Verdict::Absent };
        let right = self.hashes_right(*digest, &entry).await;
        if !self.is_indexed(digest, &entry) {
            // It was evicted meanwhile, or replaced by another file.
            return Verdict::Absent;
        }
        match right {
            Ok(true) => Verdict::Right,
            Ok(false) => {
                // First, because a restart would trust the file as long as it is there.
                if !self.record(*digest).await {
                    tracing::error!(%digest, "a cached blob is wrong, and this cannot be recorded: a restart may trust it");
                }
                self.drop_entry(digest, &entry);
                self.open_files.invalidate(digest);
                tracing::warn!(%digest, "a cached blob is wrong: it is removed");
                Verdict::Wrong
            }
            Err(error) => Verdict::Unreadable(error.to_string()),
        }
    }

    async fn hashes_right(&self, digest: Digest, entry: &Entry) -> io::Result<bool> {
        let (layout, size, proven) = (self.layout.clone(), entry.size, entry.is_servable());
        let open = move || {
            let mut paths = [layout.blob(&digest), layout.unproven(&digest)];
            if !proven {
                paths.reverse();
            }
            // A client may have proven the file meanwhile, which moves it.
            let file = File::open(&paths[0]).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => File::open(&paths[1]),
                _ => Err(error),
            })?;
            let length = file.metadata()?.len();
            Ok((Arc::new(file), length))
        };
        let (file, length) = match self.disk.run(&Identity::GATEWAY, open).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        if length != size {
            return Ok(false);
        }
        match self.disk.hash(&Identity::GATEWAY, &file, size).await {
            // It became shorter meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            hashed => Ok(hashed?.finish() == digest),
        }
    }
}
