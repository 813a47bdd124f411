//! Hashing files again before they are served: after a reboot, and after wrong bytes.

use std::fs::File;
use std::io;
use std::sync::Arc;

use backends::{Digest, Hasher, in_current_request};
use limits::pool::Identity;

use crate::cache::Cache;
use crate::disk::hash_on;
use crate::entry::{Entry, Recheck};

impl Cache {
    /// Whether a whole blob's bytes can be trusted. If they must be hashed first, that is done once for all
    /// who wait, and goes on if they leave. Nobody waits longer than `timeouts.cache_proof`.
    pub(super) async fn is_trusted(self: &Arc<Self>, digest: Digest, entry: &Arc<Entry>) -> bool {
        let Some(recheck) = entry.recheck() else { return true };
        let mut verdict = recheck.verdict();
        if recheck.begin() {
            tokio::spawn(in_current_request(run(Arc::clone(self), digest, Arc::clone(entry))));
        }
        let ended = tokio::time::timeout(self.recheck_wait, verdict.wait_for(Option::is_some)).await;
        matches!(ended, Ok(Ok(verdict)) if *verdict == Some(true))
    }

    /// Takes back the trust in a whole blob: it is hashed before it is served again.
    pub(super) async fn distrust(self: &Arc<Self>, digest: Digest) {
        let cache = Arc::clone(self);
        match self.disk.run(&Identity::GATEWAY, move || cache.set_aside(&digest)).await {
            Ok(()) => {
                tracing::warn!(%digest, "a cached blob gave wrong bytes: it is hashed before it is served again")
            }
            Err(error) => {
                tracing::error!(%digest, %error, "a cached blob gave wrong bytes and cannot be set aside")
            }
        }
    }

    fn set_aside(&self, digest: &Digest) -> io::Result<()> {
        let _placing = self.placing.lock();
        let indexed = self.space.lock().index().peek(digest).cloned();
        let Some(entry) = indexed.filter(|entry| entry.is_servable()) else { return Ok(()) };
        let unproven = Arc::new(Entry::found(entry.size, false));
        self.space.lock().index().insert(*digest, Arc::clone(&unproven));
        self.open_files.invalidate(digest);
        // The disk that gave wrong bytes may refuse this too.
        self.layout.distrust(digest).inspect_err(|_| self.drop_entry(digest, &unproven))
    }
}

/// Rechecks one file. One at a time: each is a read of a whole blob.
async fn run(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>) {
    let Ok(_permit) = cache.rechecks.acquire().await else { return };
    let (checked, size) = (Arc::clone(&cache), entry.size);
    // Without a bound: lookups wait for it only for a while, and a slow disk takes long.
    let proof = tokio::task::spawn_blocking(move || prove(&checked, &digest, size)).await;
    let Some(recheck) = entry.recheck() else { return };
    end(&cache, &digest, &entry, recheck, proof.unwrap_or_else(|error| Err(io::Error::other(error))));
}

/// Whether the file's digest is right; if it is, puts the file in its place.
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
