//! Reserves space in the cache for a fill.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use backends::Digest;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::admission::{Admission, FillNumber};
use crate::cache::Cache;
use crate::cleanup::Cleanup;

/// Space for a blob, and a partial file. When this is dropped, the reaper returns both: a fill may be dropped on any
/// thread, and only the reaper may wait for the disk.
pub(super) struct Reservation {
    cache: Arc<Cache>,
    content: Option<Reserved>,
}

/// What a reservation holds.
#[derive(Debug)]
pub(super) struct Reserved {
    digest: Digest,
    size: u64,
    admission: Admission,
    partial: Option<PathBuf>,
}

/// The result of a request for more space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The fill got the space that it asked for.
    All,
    /// The fill got nothing yet. Files that were evicted must still be removed, and this call removed some of them.
    Later,
    /// The fill gets nothing, because it would evict others and no client stays.
    Nothing,
}

/// Takes space for a fill as its bytes arrive.
#[derive(Clone)]
pub(super) struct Growth {
    cache: Arc<Cache>,
    fill: FillNumber,
}

impl Reservation {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, size: u64, admission: Admission) -> Self {
        Self { cache, content: Some(Reserved { digest, size, admission, partial: None }) }
    }

    /// Creates the partial file. If its whole space is taken, the file gets its whole length. Returns `None` if files
    /// that were evicted must still be removed; this call removed some of them, so try again. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<Option<File>> {
        let Some(content) = &mut self.content else { return Err(io::ErrorKind::NotFound.into()) };
        // These files must be gone before the disk is asked for its free space.
        if !self.cache.reap() {
            return Ok(None);
        }
        let whole = matches!(content.admission, Admission::Whole(_));
        self.cache.has_room(if whole { content.size } else { 0 })?;
        let (path, file) = self.cache.layout.create_partial(&content.digest, attempt)?;
        content.partial = Some(path);
        if whole {
            allocate(&file, content.size)?;
        }
        Ok(Some(file))
    }

    /// If the fill does not have all its space, the way to get more.
    pub(super) fn growth(&self) -> Option<Growth> {
        match self.content.as_ref()?.admission {
            Admission::Whole(_) => None,
            Admission::Growing(fill) => Some(Growth { cache: Arc::clone(&self.cache), fill }),
        }
    }

    /// Returns the space and removes the file now. Blocks on the disk.
    pub(super) fn release(mut self) {
        if let Some(content) = self.content.take() {
            content.release(&self.cache);
        }
    }

    /// Moves the file, whole and proven, to its place. Returns `false` if the blob is not kept. Blocks on the disk.
    pub(super) fn publish(mut self) -> io::Result<bool> {
        let Some(Reserved { digest, size, admission, partial: Some(partial) }) = &self.content else {
            return Ok(false);
        };
        let kept = self.cache.publish(partial, admission.fill(), digest, *size)?;
        if kept {
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
        cache.space.lock().end(self.admission.fill());
    }
}

impl Growth {
    /// Takes the space for these bytes of the blob, before they are written. If a client stays (`stays`), this may
    /// evict others. Blocks on the disk.
    pub(super) fn take(&self, bytes: Range<u64>, stays: bool) -> io::Result<Taken> {
        if !self.cache.grow(self.fill, bytes.end, stays) {
            return Ok(Taken::Nothing);
        }
        // This also removes files that were evicted for other fills, because this fill may now have their blocks.
        if !self.cache.reap() {
            return Ok(Taken::Later);
        }
        self.cache.has_room(bytes.end - bytes.start)?;
        Ok(Taken::All)
    }
}

/// Allocates the whole length of the file on the disk at once, so that a full disk shows before any client reads. File
/// systems on disks record extents and write no bytes, so a large file takes no longer. A file system in memory clears
/// the bytes, at some GiB a second.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
