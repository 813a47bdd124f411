//! Letting blobs in and out: space in the index and on the disk.

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
use crate::unremoved::Unremoved;

/// Files that are removed as one piece of work on the disk. All threads may wait for each other here: even then
/// the last of them has its turn within `timeouts.disk`, if the disk removes 50 files a second. A large file has
/// many extents, and takes longer; but one file is removed by one call.
const REMOVED_AT_ONCE: usize = 16;

impl Cache {
    /// Reserves space for a blob in the index, or says why not. Blocks on the disk.
    pub(super) fn reserve(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Reservation, BypassReason> {
        let asked_again = self.demand.asked_again(&digest);
        let admission = {
            let _placing = self.placing.lock();
            self.supersede(&digest)?;
            self.space.lock().admit(entry::blocks(size), asked_again)?
        };
        Ok(Reservation::new(Arc::clone(self), digest, size, admission))
    }

    /// Makes way for a fill of a blob whose file waits to be hashed: fetching the blob is quicker.
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

    /// Gives a fill the space for this many bytes of its blob in the index. `false` if others would have to go and
    /// no client stays (`stays`).
    pub(super) fn grow(&self, fill: FillNumber, bytes: u64, stays: bool) -> bool {
        let mut space = self.space.lock();
        let Some(evicted) = space.grow(fill, entry::blocks(bytes), stays) else { return false };
        self.cleanups.evicted(evicted);
        true
    }

    /// Whether the disk has so many bytes free above the reserve. Blocks on the disk.
    pub(super) fn has_room(&self, bytes: u64) -> io::Result<()> {
        let free = free_bytes(self.layout.root())?;
        if free >= bytes.saturating_add(self.reserve) {
            return Ok(());
        }
        let why = format!("{free} bytes are free, {bytes} above the reserve are needed");
        Err(io::Error::new(io::ErrorKind::StorageFull, why))
    }

    /// Puts a proven file in its place. `false` if it is not kept: it would evict others and no client stayed
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
        // Nobody waits for their space yet.
        self.cleanups.evicted(evicted);
        Ok(true)
    }

    /// Takes this entry out of the index, if it is still there, and has its file removed.
    pub(super) fn drop_entry(&self, digest: &Digest, entry: &Arc<Entry>) {
        let mut space = self.space.lock();
        if space.index().peek(digest).is_some_and(|indexed| Arc::ptr_eq(indexed, entry)) {
            space.index().remove(digest);
            self.cleanups.push(Cleanup::Evicted(*digest));
        }
    }

    /// Whether the index has this entry of the blob, not a later one.
    pub(super) fn is_indexed(&self, digest: &Digest, entry: &Arc<Entry>) -> bool {
        self.space.lock().index().peek(digest).is_some_and(|indexed| Arc::ptr_eq(indexed, entry))
    }

    /// Removes some files of evicted blobs, and takes back reservations that were not used. `true` if none is left.
    /// A file that is still being read keeps its bytes until it is closed. Blocks on the disk.
    pub(super) fn reap(&self) -> bool {
        let mut unremoved = self.reaping.lock();
        let (cleanups, is_all) = self.cleanups.take(REMOVED_AT_ONCE);
        for cleanup in cleanups {
            match cleanup {
                Cleanup::Evicted(digest) => self.remove_evicted(&mut unremoved, digest),
                Cleanup::Unused(reserved) => reserved.release(self),
            }
        }
        is_all
    }

    /// Has the files removed, soon, that could not be removed before.
    pub(super) fn retry_removals(&self) {
        let digests = self.reaping.lock().digests().iter().copied().collect();
        self.cleanups.evicted(digests);
    }

    fn remove_evicted(&self, unremoved: &mut Unremoved, digest: Digest) {
        match self.remove_file(&digest) {
            Ok(()) => unremoved.remove(&digest),
            Err(error) if unremoved.add(digest) => {
                tracing::warn!(%digest, %error, "an evicted blob cannot be removed");
            }
            Err(_) => {}
        }
    }

    fn remove_file(&self, digest: &Digest) -> io::Result<()> {
        // Under the lock, as a new fill of the same digest may be putting its file in place.
        let _placing = self.placing.lock();
        if self.space.lock().index().peek(digest).is_some() {
            return Ok(());
        }
        self.open_files.invalidate(digest);
        self.layout.remove(digest)?;
        tracing::debug!(%digest, "evicted");
        Ok(())
    }
}
