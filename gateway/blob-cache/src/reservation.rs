//! Space taken in the cache for a fill.

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

/// Space for a blob, and a partial file. If it is dropped, the reaper gives both back: a fill may be dropped
/// anywhere, and only the reaper may wait for the disk.
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

/// What a growing fill gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The space that it asked for.
    All,
    /// Nothing yet: files that were evicted are still to be removed, which has gone on meanwhile.
    Later,
    /// Nothing: others would have to go and no client stays.
    Nothing,
}

/// The space of a fill that takes it as its bytes arrive.
#[derive(Clone)]
pub(super) struct Growth {
    cache: Arc<Cache>,
    fill: FillNumber,
}

impl Reservation {
    pub(super) fn new(cache: Arc<Cache>, digest: Digest, size: u64, admission: Admission) -> Self {
        Self { cache, content: Some(Reserved { digest, size, admission, partial: None }) }
    }

    /// Makes the partial file, of the whole length if its space is taken. `None` if files that were evicted are
    /// still to be removed, which has gone on by this: try again. Blocks on the disk.
    pub(super) fn create_file(&mut self, attempt: u64) -> io::Result<Option<File>> {
        let Some(content) = &mut self.content else { return Err(io::ErrorKind::NotFound.into()) };
        // They must be gone before the disk is asked for its free space.
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

    /// How the fill gets its space, if it does not have all of it.
    pub(super) fn growth(&self) -> Option<Growth> {
        match self.content.as_ref()?.admission {
            Admission::Whole(_) => None,
            Admission::Growing(fill) => Some(Growth { cache: Arc::clone(&self.cache), fill }),
        }
    }

    /// Gives it back here and now. Blocks on the disk.
    pub(super) fn release(mut self) {
        if let Some(content) = self.content.take() {
            content.release(&self.cache);
        }
    }

    /// Puts the file, whole and proven, in its place. `false` if the blob is not kept. Blocks on the disk.
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
    /// Takes the space for these bytes of the blob, before they are written; others go for it if a client stays
    /// (`stays`). Blocks on the disk.
    pub(super) fn take(&self, bytes: Range<u64>, stays: bool) -> io::Result<Taken> {
        if !self.cache.grow(self.fill, bytes.end, stays) {
            return Ok(Taken::Nothing);
        }
        // Also those evicted for others, whose blocks this fill may have now.
        if !self.cache.reap() {
            return Ok(Taken::Later);
        }
        self.cache.has_room(bytes.end - bytes.start)?;
        Ok(Taken::All)
    }
}

/// Takes the file's whole length from the disk at once, so that a full disk shows before any
/// client reads. File systems on disks note extents and write none of the bytes, so that a large file takes no
/// longer; one in memory clears them, some GiB a second.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
