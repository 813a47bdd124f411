//! Hashes files again before they are served: after a reboot, and after wrong bytes.

use std::fs::File;
use std::io;
use std::sync::Arc;

use backends::{Digest, Hasher, in_current_request};
use limits::pool::Identity;
use tokio::task::JoinHandle;

use crate::cache::Cache;
use crate::disk::hash_on;
use crate::entry::{Entry, Recheck};

impl Cache {
    /// Whether the bytes of a whole blob can be trusted. If the file must first be hashed, this is done once for all
    /// callers, and it goes on if they leave. No caller waits longer than `timeouts.cache_proof`.
    pub(super) async fn is_trusted(self: &Arc<Self>, digest: Digest, entry: &Arc<Entry>) -> bool {
        let Some(recheck) = entry.recheck() else { return true };
        let mut verdict = recheck.verdict();
        if recheck.begin() {
            tokio::spawn(in_current_request(run(Arc::clone(self), digest, Arc::clone(entry))));
        }
        let ended = tokio::time::timeout(**self.recheck_wait.load(), verdict.wait_for(Option::is_some)).await;
        matches!(ended, Ok(Ok(verdict)) if *verdict == Some(true))
    }

    /// Withdraws the trust in a whole blob at once. The file is hashed before it is served again. If it cannot be hashed,
    /// it is dropped. The work on the disk is a task of its own, which goes on if nobody waits for it.
    pub(super) fn distrust(self: &Arc<Self>, digest: Digest) -> Option<JoinHandle<()>> {
        let unproven = self.take_out_of_use(&digest)?;
        let cache = Arc::clone(self);
        Some(tokio::spawn(in_current_request(async move { cache.put_aside(digest, unproven).await })))
    }

    async fn put_aside(self: Arc<Self>, digest: Digest, unproven: Arc<Entry>) {
        // First, because the disk may hang, and a restart would trust the file where it is.
        if !self.record(digest).await {
            tracing::error!(%digest, "a cached blob gave wrong bytes, and this cannot be recorded: a restart may trust it");
        }
        let (cache, entry) = (Arc::clone(&self), Arc::clone(&unproven));
        match self.disk.run(&Identity::GATEWAY, move || cache.set_aside(&digest, &entry)).await {
            Ok(()) => {
                tracing::warn!(%digest, "a cached blob gave wrong bytes: it is hashed before it is served again")
            }
            Err(error) => {
                self.drop_entry(&digest, &unproven);
                tracing::error!(%digest, %error, "a cached blob gave wrong bytes and cannot be set aside: it is dropped")
            }
        }
    }

    /// Adds a blob to the list of files that a restart does not trust. Does not use the cache's disk. Returns `false`
    /// if the list is full, or if the disk of `state_dir` does not answer.
    pub(super) async fn record(self: &Arc<Self>, digest: Digest) -> bool {
        let cache = Arc::clone(self);
        let recording = async move {
            let permit = Arc::clone(&cache.recording).acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let mut unremoved = cache.unremoved.lock();
                unremoved.add(digest);
                unremoved.digests().contains(&digest)
            })
            .await
        };
        matches!(tokio::time::timeout(self.disk.timeout(), recording).await, Ok(Ok(true)))
    }

    /// Marks a trusted blob as one that must be hashed. Does not use the disk, because a disk that returns wrong bytes
    /// may hang, too.
    fn take_out_of_use(&self, digest: &Digest) -> Option<Arc<Entry>> {
        let mut space = self.space.lock();
        let size = space.index().peek(digest).filter(|entry| entry.is_servable())?.size;
        let unproven = Arc::new(Entry::found(size, false));
        space.index().insert(*digest, Arc::clone(&unproven));
        drop(space);
        self.open_files.invalidate(digest);
        Some(unproven)
    }

    /// Moves the file to where it is hashed. Blocks on the disk.
    fn set_aside(&self, digest: &Digest, entry: &Arc<Entry>) -> io::Result<()> {
        let placing = self.placing.lock();
        // The blob was dropped meanwhile. Perhaps a fill has put another file in its place.
        if !self.is_indexed(digest, entry) {
            return Ok(());
        }
        self.layout.distrust(digest)?;
        // The disk of the list may hang, so the list is written without the lock that fills need.
        drop(placing);
        self.unremoved.lock().remove(digest);
        Ok(())
    }
}

/// Rechecks one file. Files are rechecked one at a time, because each recheck reads a whole blob.
async fn run(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>) {
    let Ok(_permit) = cache.rechecks.acquire().await else { return };
    let (checked, size) = (Arc::clone(&cache), entry.size);
    // This has no time limit: a slow disk takes long, and lookups wait only for a limited time.
    let proof = tokio::task::spawn_blocking(move || prove(&checked, &digest, size)).await;
    let Some(recheck) = entry.recheck() else { return };
    end(&cache, &digest, &entry, recheck, proof.unwrap_or_else(|error| Err(io::Error::other(error))));
}

/// Hashes the file. If its digest is right, moves the file to its place and returns `true`.
fn prove(cache: &Cache, digest: &Digest, size: u64) -> io::Result<bool> {
    let path = cache.layout.unproven(digest);
    let file = File::open(&path)?;
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let mut hasher = Hasher::new();
    hash_on(&mut hasher, &file, size)?;
    if hasher.finish() != *digest {
        return Ok(false);
    }
    let _placing = cache.placing.lock();
    cache.layout.publish(&path, digest)?;
    Ok(true)
}

fn end(cache: &Cache, digest: &Digest, entry: &Arc<Entry>, recheck: &Recheck, proof: io::Result<bool>) {
    match proof {
        Ok(true) => {
            tracing::debug!(%digest, "proven again");
            recheck.end(true);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%digest, %error, "a cached blob cannot be proven now");
            recheck.postpone();
        }
        _ => {
            tracing::debug!(%digest, "not whole after the machine's restart, or replaced");
            recheck.end(false);
            cache.drop_entry(digest, entry);
        }
    }
}
