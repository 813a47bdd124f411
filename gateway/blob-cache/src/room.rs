//! Room kept for a blob on its way in.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use backends::Digest;

use super::entry::Entry;
use super::reaper::Chore;
use super::store::Cache;

/// A place in the index or blocks beside it, and a partial file; dropped, both are given back by the reaper, as a fill
/// may be dropped anywhere and only the reaper may wait for the disk.
pub(super) struct Room {
    cache: Arc<Cache>,
    content: Option<Returned>,
}

/// What a room holds.
#[derive(Debug)]
pub(super) struct Returned {
    digest: Digest,
    entry: Arc<Entry>,
    /// Blocks beside the index; none if the entry is in it.
    beside: u64,
    partial: Option<PathBuf>,
}

impl Room {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>, beside: u64) -> Self {
        Self { cache, content: Some(Returned { digest, entry, beside, partial: None }) }
    }

    /// Makes the partial file. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<File> {
        let Some(content) = &mut self.content else { return Err(io::ErrorKind::NotFound.into()) };
        let (path, file) = self.cache.layout().create_partial(&content.digest, attempt)?;
        content.partial = Some(path);
        Ok(file)
    }

    /// Gives it back here and now. Blocks on the disk.
    pub(super) fn release(mut self) {
        if let Some(content) = self.content.take() {
            content.give_back(&self.cache);
        }
    }

    /// Puts the file, whole and proven, in its place. `false` if the blob is not kept. Blocks on the disk.
    pub(super) fn place(mut self) -> io::Result<bool> {
        let Some(Returned { digest, entry, beside, partial: Some(partial) }) = &self.content else {
            return Ok(false);
        };
        let placed = self.cache.place(partial, digest, entry, *beside)?;
        if placed {
            self.cache.free_beside(*beside);
            self.content = None;
        }
        Ok(placed)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(content) = self.content.take() {
            self.cache.chores().push(Chore::Returned(content));
        }
    }
}

impl Returned {
    /// Removes the partial file and frees the place. Blocks on the disk.
    pub(super) fn give_back(self, cache: &Cache) {
        if let Some(partial) = &self.partial
            && let Err(error) = std::fs::remove_file(partial)
        {
            tracing::warn!(digest = %self.digest, %error, "a partial file cannot be removed");
        }
        cache.give_back(&self.digest, &self.entry);
        cache.free_beside(self.beside);
    }
}
