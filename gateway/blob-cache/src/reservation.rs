//! Space taken in the cache for a fill.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use backends::Digest;

use crate::cache::Cache;
use crate::cleanup::Cleanup;
use crate::entry::Entry;

/// Space for a blob, in the index or beside it, and a partial file. If it is dropped, the reaper gives both
/// back: a fill may be dropped anywhere, and only the reaper may wait for the disk.
pub(super) struct Reservation {
    cache: Arc<Cache>,
    content: Option<Reserved>,
}

/// What a reservation holds.
#[derive(Debug)]
pub(super) struct Reserved {
    digest: Digest,
    entry: Arc<Entry>,
    /// Blocks beside the index; none if the entry is in it.
    beside: u64,
    partial: Option<PathBuf>,
}

impl Reservation {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>, beside: u64) -> Self {
        Self { cache, content: Some(Reserved { digest, entry, beside, partial: None }) }
    }

    /// Makes the partial file. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<File> {
        let Some(content) = &mut self.content else { return Err(io::ErrorKind::NotFound.into()) };
        let (path, file) = self.cache.layout.create_partial(&content.digest, attempt)?;
        content.partial = Some(path);
        Ok(file)
    }

    /// Gives it back here and now. Blocks on the disk.
    pub(super) fn release(mut self) {
        if let Some(content) = self.content.take() {
            content.release(&self.cache);
        }
    }

    /// Puts the file, whole and proven, in its place. `false` if the blob is not kept. Blocks on the disk.
    pub(super) fn publish(mut self) -> io::Result<bool> {
        let Some(Reserved { digest, entry, beside, partial: Some(partial) }) = &self.content else {
            return Ok(false);
        };
        let kept = self.cache.publish(partial, digest, entry, *beside)?;
        if kept {
            self.cache.free_beside(*beside);
            self.content = None;
        }
        Ok(kept)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(content) = self.content.take() {
            self.cache.cleanups.push(Cleanup::Unused(content));
        }
    }
}

impl Reserved {
    /// Removes the partial file and frees the space. Blocks on the disk.
    pub(super) fn release(self, cache: &Cache) {
        if let Some(partial) = &self.partial
            && let Err(error) = std::fs::remove_file(partial)
        {
            tracing::warn!(digest = %self.digest, %error, "a partial file cannot be removed");
        }
        cache.drop_entry(&self.digest, &self.entry);
        cache.free_beside(self.beside);
    }
}
