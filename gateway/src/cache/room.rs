//! Room kept for a blob on its way in.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use backends::Digest;

use super::entry::Entry;
use super::store::Cache;

/// A place in the index and a partial file; dropped, both are given back.
pub(super) struct Room {
    cache: Arc<Cache>,
    digest: Digest,
    entry: Arc<Entry>,
    partial: Option<PathBuf>,
}

impl Room {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>) -> Self {
        Self { cache, digest, entry, partial: None }
    }

    /// Makes the partial file. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<File> {
        let (path, file) = self.cache.layout().create_partial(&self.digest, attempt)?;
        self.partial = Some(path);
        Ok(file)
    }

    /// Puts the file, whole and proven, in its place. `false` if the blob was evicted while it
    /// came in. Blocks on the disk.
    pub(super) fn place(mut self) -> io::Result<bool> {
        let Some(partial) = &self.partial else { return Ok(false) };
        let placed = self.cache.place(partial, &self.digest, &self.entry)?;
        if placed {
            self.partial = None;
        }
        Ok(placed)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial
            && let Err(error) = std::fs::remove_file(partial)
        {
            tracing::warn!(digest = %self.digest, %error, "a partial file cannot be removed");
        }
        if !self.entry.is_whole() {
            self.cache.give_back(&self.digest, &self.entry);
        }
    }
}
