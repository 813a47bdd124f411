//! Adds and evicts blobs: space in the index and on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use backends::Digest;

use crate::admission::FillNumber;
use crate::bypass::BypassReason;
use crate::cache::Cache;
use crate::cleanup::Cleanup;
use crate::disk::free_bytes;
use crate::entry::{self, Entry};
use crate::reservation::Reservation;

/// The number of files that one piece of disk work removes. If all threads wait for each other here and the disk
/// removes 50 files a second, the last thread still has its turn within `timeouts.disk`. A large file has many extents
/// and takes longer, but one call removes one file.
const REMOVED_AT_ONCE: usize = 16;

impl Cache {
    /// Reserves space for a blob in the index, or says why not. Blocks on the disk.
    pub(super) fn reserve(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Reservation, BypassReason> {
        let asked_again = self.demand.asked_again(&digest) || self.space.lock().is_wanted(&digest);
        let admission = {
            let _placing = self.placing.lock();
            self.supersede(&digest)?;
            self.space.lock().admit(entry::blocks(size), asked_again)?
        };
        Ok(Reservation::new(Arc::clone(self), digest, size, admission))
    }

    /// Removes a blob whose file waits to be hashed, so that a fill can replace it: fetching the blob is faster.
    fn supersede(&self, digest: &Digest) -> Result<(), BypassReason> {
        let indexed = self.space.lock().index().peek(digest).cloned();
        match indexed {
            Some(unproven) if !unproven.is_servable() => {
                self.layout.remove(digest).map_err(|_| BypassReason::Disk)?;
                self.drop_entry(digest, &unproven);
                Ok(())
            }
            Some(_) => Err(BypassReason::Busy),
            None => Ok(()),
        }
    }

    /// Gives a fill the space for this many bytes of its blob in the index. Returns `false` if the fill would evict
    /// others and no client stays (`stays`).
    pub(super) fn grow(&self, fill: FillNumber, bytes: u64, stays: bool) -> bool {
        let mut space = self.space.lock();
        let Some(evicted) = space.grow(fill, entry::blocks(bytes), stays) else { return false };
        self.cleanups.evicted(evicted);
        true
    }

    /// Returns an error unless the disk has this many bytes free above the reserve. Blocks on the disk.
    pub(super) fn has_room(&self, bytes: u64) -> io::Result<()> {
        let free = free_bytes(self.layout.root())?;
        if free >= bytes.saturating_add(self.reserve) {
            return Ok(());
        }
        let why = format!("{free} bytes are free, {bytes} above the reserve are needed");
        Err(io::Error::new(io::ErrorKind::StorageFull, why))
    }

    /// Moves a proven file to its place. Returns `false` if it is not kept: it would evict others, and no client stayed
    /// for it. Blocks on the disk.
    pub(super) fn publish(
        &self,
        partial: &Path,
        fill: FillNumber,
        digest: &Digest,
        size: u64,
    ) -> io::Result<bool> {
        let _placing = self.placing.lock();
        let wanted = self.demand.was_asked(digest);
        if !self.space.lock().keeps(digest, entry::blocks(size), wanted) {
            return Ok(false);
        }
        self.layout.publish(partial, digest)?;
        let mut space = self.space.lock();
        let evicted = space.keep(Some(fill), *digest, Arc::new(Entry::proven(size)));
        // Nobody waits for the space of these blobs yet.
        self.cleanups.evicted(evicted);
        Ok(true)
    }

    /// Removes this entry from the index, if it is still there, and schedules the removal of its file.
    pub(super) fn drop_entry(&self, digest: &Digest, entry: &Arc<Entry>) {
        let mut space = self.space.lock();
        if space.index().peek(digest).is_some_and(|indexed| Arc::ptr_eq(indexed, entry)) {
            space.index().remove(digest);
            self.cleanups.push(Cleanup::Evicted(*digest));
        }
    }

    /// Whether the index has exactly this entry for the blob, not a later one.
    pub(super) fn is_indexed(&self, digest: &Digest, entry: &Arc<Entry>) -> bool {
        self.space.lock().index().peek(digest).is_some_and(|indexed| Arc::ptr_eq(indexed, entry))
    }

    /// Removes some files of evicted blobs, and returns unused reservations. Returns `true` if none is left. A file
    /// that is still being read keeps its bytes until it is closed. Blocks on the disk.
    pub(super) fn reap(&self) -> bool {
        let _reaping = self.reaping.lock();
        let (cleanups, is_all) = self.cleanups.take(REMOVED_AT_ONCE);
        for cleanup in cleanups {
            match cleanup {
                Cleanup::Evicted(digest) => self.remove_evicted(&digest),
                Cleanup::Unused(reserved) => reserved.release(self),
            }
        }
        is_all
    }

    /// Schedules another attempt to remove the files that could not be removed.
    pub(super) fn retry_removals(&self) {
        let digests = self.unremoved.lock().digests().iter().copied().collect();
        self.cleanups.evicted(digests);
    }

    fn remove_evicted(&self, digest: &Digest) {
        // The disk of the list may hang, so the list is written without the lock that fills need.
        match self.remove_file(digest) {
            Ok(true) => self.unremoved.lock().remove(digest),
            Ok(false) => {}
            Err(error) => {
                if self.unremoved.lock().add(*digest) {
                    tracing::warn!(%digest, %error, "an evicted blob cannot be removed");
                }
            }
        }
    }

    /// Removes the file of a blob that is not in the index. Returns whether no file is left that must not be trusted.
    fn remove_file(&self, digest: &Digest) -> io::Result<bool> {
        // The lock is needed because a new fill of the same digest may be moving its file to its place.
        let _placing = self.placing.lock();
        if let Some(entry) = self.space.lock().index().peek(digest) {
            return Ok(entry.is_servable());
        }
        self.open_files.invalidate(digest);
        self.layout.remove(digest)?;
        tracing::debug!(%digest, "evicted");
        Ok(true)
    }
}
