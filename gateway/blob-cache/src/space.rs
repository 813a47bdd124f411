//! Letting blobs in and out: space in the index and on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use backends::Digest;

use crate::admission::{Admission, Occupancy, index_max};
use crate::bypass::BypassReason;
use crate::cache::Cache;
use crate::cleanup::Cleanup;
use crate::disk::free_bytes;
use crate::entry::{self, Entry};
use crate::reservation::Reservation;

impl Cache {
    /// Reserves space for a blob, or says why not. Blocks on the disk.
    pub(super) fn reserve(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Reservation, BypassReason> {
        let entry = Arc::new(Entry::reserved(size));
        let blocks = u64::from(entry.weight());
        if blocks > index_max(self.occupancy().capacity) {
            return Err(BypassReason::TooLarge);
        }
        let asked_again = self.demand.requests(&digest) > 1;
        let beside = {
            let _placing = self.placing.lock();
            match self.index.get(&digest) {
                // A file that waits to be hashed is replaced: fetching the blob is quicker.
                Some(unproven) if unproven.is_whole() && !unproven.is_servable() => {
                    self.layout.remove(&digest).map_err(|_| BypassReason::Disk)?;
                    self.index.invalidate(&digest);
                }
                Some(_) => return Err(BypassReason::Busy),
                None => {}
            }
            self.index.run_pending_tasks();
            match self.occupancy().admit(blocks, asked_again).ok_or(BypassReason::AskedOnce)? {
                Admission::Beside => {
                    self.beside.fetch_add(blocks, Ordering::AcqRel);
                    blocks
                }
                Admission::Free | Admission::Evicting => {
                    self.index.insert(digest, Arc::clone(&entry));
                    self.index.run_pending_tasks();
                    0
                }
            }
        };
        let reservation = Reservation::new(Arc::clone(self), digest, entry, beside);
        // The files evicted for it must be gone before the disk is asked for its free space.
        self.reap();
        match free_bytes(self.layout.root()) {
            Ok(free) if free >= size.saturating_add(self.reserve) => Ok(reservation),
            refused => {
                let free = refused.ok();
                tracing::warn!(%digest, size, free, reserve = self.reserve, "no room on the cache's disk");
                Err(BypassReason::Disk)
            }
        }
    }

    /// The blocks in use. Exact while `placing` is held, once pending tasks have run.
    fn occupancy(&self) -> Occupancy {
        Occupancy {
            capacity: self.capacity / entry::bytes(1),
            indexed: self.index.weighted_size(),
            beside: self.beside.load(Ordering::Acquire),
        }
    }

    /// Puts a proven file in its place. `false` if it is not kept: it was evicted while it came in, or it
    /// would evict others and no client stayed for it. `beside` are its blocks beside the index, which it
    /// keeps.
    pub(super) fn publish(
        &self,
        partial: &Path,
        digest: &Digest,
        entry: &Arc<Entry>,
        beside: u64,
    ) -> io::Result<bool> {
        {
            let _placing = self.placing.lock();
            self.index.run_pending_tasks();
            let wanted = self.demand.requests(digest) > 0;
            let is_kept = match beside {
                0 => self.is_indexed(digest, entry),
                _ => !self.index.contains_key(digest) && self.occupancy().keeps(beside, wanted),
            };
            if !is_kept {
                return Ok(false);
            }
            self.layout.publish(partial, digest)?;
            entry.set_whole();
            if beside > 0 {
                self.index.insert(*digest, Arc::clone(entry));
                self.index.run_pending_tasks();
            }
        }
        if beside > 0 {
            // The files evicted for it must be gone before others get its space beside the index.
            self.reap();
        }
        Ok(true)
    }

    /// Gives back blocks beside the index.
    pub(super) fn free_beside(&self, blocks: u64) {
        self.beside.fetch_sub(blocks, Ordering::AcqRel);
    }

    /// Takes this entry out of the index, if it is still there.
    pub(super) fn drop_entry(&self, digest: &Digest, entry: &Arc<Entry>) {
        let _placing = self.placing.lock();
        self.drop_entry_unlocked(digest, entry);
    }

    /// As [`Cache::drop_entry`], for a caller on the data path, who may not wait for the lock.
    pub(super) fn drop_entry_unlocked(&self, digest: &Digest, entry: &Arc<Entry>) {
        if self.is_indexed(digest, entry) {
            self.index.invalidate(digest);
        }
    }

    /// Whether the index has this entry of the blob, not a later one.
    pub(super) fn is_indexed(&self, digest: &Digest, entry: &Arc<Entry>) -> bool {
        self.index.get(digest).is_some_and(|indexed| Arc::ptr_eq(&indexed, entry))
    }

    /// Removes the files of evicted blobs and takes back reservations that were not used. A file that is
    /// still being read keeps its bytes until it is closed. Blocks on the disk.
    pub(super) fn reap(&self) {
        let _reaping = self.reaping.lock();
        for cleanup in self.cleanups.take() {
            match cleanup {
                Cleanup::Evicted(digest) => self.remove_evicted(&digest),
                Cleanup::Unused(reserved) => reserved.release(self),
            }
        }
    }

    fn remove_evicted(&self, digest: &Digest) {
        // Under the lock, as a new fill of the same digest may be putting its file in place.
        let _placing = self.placing.lock();
        if self.index.contains_key(digest) {
            return;
        }
        self.open_files.invalidate(digest);
        match self.layout.remove(digest) {
            Ok(()) => tracing::debug!(%digest, "evicted"),
            Err(error) => tracing::warn!(%digest, %error, "an evicted blob cannot be removed"),
        }
    }
}
