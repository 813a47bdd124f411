//! Room kept for a blob on its way in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
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
    released: bool,
}

impl Room {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>) -> Self {
        Self { cache, digest, entry, partial: None, released: false }
    }

    /// Makes the partial file. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<File> {
        let (path, file) = self.cache.layout().create_partial(&self.digest, attempt)?;
        self.partial = Some(path);
        Ok(file)
    }

    /// Gives it back here and now. Blocks on the disk.
    pub(super) fn release(mut self) {
        give_back(&self.cache, &self.digest, &self.entry, self.partial.take().as_deref());
        self.released = true;
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
        if self.released || (self.partial.is_none() && self.entry.is_whole()) {
            return;
        }
        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        let (entry, partial) = (Arc::clone(&self.entry), self.partial.take());
        let give_back = move || give_back(&cache, &digest, &entry, partial.as_deref());
        // A fill may be dropped anywhere, and only here may its end wait for the disk.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(give_back)),
            Err(_) => give_back(),
        }
    }
}

fn give_back(cache: &Cache, digest: &Digest, entry: &Arc<Entry>, partial: Option<&Path>) {
    if let Some(partial) = partial
        && let Err(error) = std::fs::remove_file(partial)
    {
        tracing::warn!(%digest, %error, "a partial file cannot be removed");
    }
    if !entry.is_whole() {
        cache.give_back(digest, entry);
    }
}
