//! Looks a blob up. The result is a hit, a fill to join, a fill to begin, or a bypass.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use backends::Digest;
use dashmap::Entry as Slot;
use limits::pool::Identity;

use crate::bypass::{Bypass, BypassReason};
use crate::cache::Cache;
use crate::cached_blob::CachedBlob;
use crate::demand::Request;
use crate::disk::is_busy;
use crate::fill::Fill;
use crate::follower::Join;
use crate::writer::Writer;

/// The result of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// The blob is here.
    Hit(CachedBlob),
    /// Another client's fill is under way.
    Join(Join),
    /// The caller must fill the blob with this writer. It reads behind its own fill.
    Fill(Writer, Join),
    /// The blob is not here and cannot be filled now.
    Bypass(Bypass),
}

impl Cache {
    /// Looks a blob up for this client. A hit is whole, right, and open. Waits for the disk, and up to
    /// `timeouts.cache_proof` for a file that must be hashed first.
    pub async fn lookup(self: &Arc<Self>, client: &Identity, digest: &Digest) -> Lookup {
        match self.get(client, digest).await {
            Ok(Some(blob)) => Lookup::Hit(blob),
            Ok(None) => self.join_or_fill(client, digest).await,
            Err(error) => self.bypass(client, digest, BypassReason::of_disk(&error)),
        }
    }

    /// Like [`Cache::lookup`], for a caller whose last lookup was no hit. It does not wait for a file that must be
    /// hashed first.
    pub async fn join_or_fill(self: &Arc<Self>, client: &Identity, digest: &Digest) -> Lookup {
        if let Some(lookup) = self.try_join_or_fill(client, digest) {
            return lookup;
        }
        match self.get(client, digest).await {
            Ok(Some(blob)) => Lookup::Hit(blob),
            Ok(None) => self.bypass(client, digest, BypassReason::Busy),
            Err(error) => self.bypass(client, digest, BypassReason::of_disk(&error)),
        }
    }

    /// Returns `None` if the blob is here by now.
    fn try_join_or_fill(self: &Arc<Self>, client: &Identity, digest: &Digest) -> Option<Lookup> {
        match self.fills.entry(*digest) {
            Slot::Occupied(slot) => {
                Some(Lookup::Join(Join::new(slot.get(), client, self.request(client, digest))))
            }
            Slot::Vacant(_) if self.holds(digest) => None,
            Slot::Vacant(slot) => {
                let Ok(fill_slot) = self.fill_slots.try_take(client) else {
                    return Some(self.bypass(client, digest, BypassReason::Busy));
                };
                let fill = Arc::new(Fill::new(*digest, *client));
                let join = Join::new(&fill, client, self.request(client, digest));
                slot.insert(Arc::clone(&fill));
                Some(Lookup::Fill(Writer::new(Arc::clone(self), fill, fill_slot), join))
            }
        }
    }

    fn bypass(&self, client: &Identity, digest: &Digest, reason: BypassReason) -> Lookup {
        Lookup::Bypass(Bypass::new(reason, self.request(client, digest)))
    }

    fn request(&self, client: &Identity, digest: &Digest) -> Request {
        self.demand.begin(digest, client.network())
    }

    /// Returns a blob that is here, whole and right, for this client. The lookup counts as a use.
    ///
    /// # Errors
    /// The blob is here, but its file cannot be opened now.
    pub async fn get(self: &Arc<Self>, client: &Identity, digest: &Digest) -> io::Result<Option<CachedBlob>> {
        let Some(entry) = self.entry(digest) else {
            return Ok(None);
        };
        if !self.is_trusted(*digest, &entry).await {
            return Ok(None);
        }
        let blob = |file| CachedBlob { file, size: entry.size, disk: self.disk.clone(), reader: *client };
        if let Some(file) = self.open_files.get(digest) {
            return Ok(Some(blob(file)));
        }
        let (path, size) = (self.layout.blob(digest), entry.size);
        match self.disk.run_soon(client, move || open_whole(&path, size)).await {
            Ok(file) => {
                self.open_files.insert(*digest, Arc::clone(&file));
                if !self.is_indexed(digest, &entry) {
                    // The blob was evicted meanwhile. An open file would keep its bytes on the disk.
                    self.open_files.invalidate(digest);
                }
                Ok(Some(blob(file)))
            }
            Err(error) if is_busy(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%digest, %error, "a cached blob cannot be opened");
                // Any other error, such as a lack of file descriptors, says nothing about the file.
                match error.kind() {
                    io::ErrorKind::NotFound => self.drop_entry(digest, &entry),
                    io::ErrorKind::InvalidData => drop(self.distrust(*digest)),
                    _ => {}
                }
                Err(error)
            }
        }
    }
}

fn open_whole(path: &Path, size: u64) -> io::Result<Arc<File>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != size {
        let why = format!("{length} bytes on disk, not {size}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Arc::new(file))
}
