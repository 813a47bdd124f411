//! Reading files again after a restart of the machine, before they are served.

use std::fs::File;
use std::io;
use std::sync::Arc;

use backends::Digest;

use super::entry::{Entry, Trial};
use super::files::hash_until;
use super::store::Cache;

impl Cache {
    /// Whether a whole blob's bytes can be trusted. Where they have to be read first, that is done
    /// once for all who wait, whether they stay or not; nobody waits longer than
    /// `timeouts.cache_proof`.
    pub(super) async fn is_trusted(self: &Arc<Self>, digest: Digest, entry: &Arc<Entry>) -> bool {
        let Some(trial) = entry.trial() else { return true };
        let mut verdict = trial.verdict();
        if trial.begin() {
            tokio::spawn(hold(Arc::clone(self), digest, Arc::clone(entry)));
        }
        let ended = tokio::time::timeout(self.proof_wait(), verdict.wait_for(Option::is_some)).await;
        matches!(ended, Ok(Ok(verdict)) if *verdict == Some(true))
    }
}

/// Proves one file. One at a time: each is a read of a whole blob.
async fn hold(cache: Arc<Cache>, digest: Digest, entry: Arc<Entry>) {
    let Ok(_permit) = cache.proving().acquire().await else { return };
    let (held, size) = (Arc::clone(&cache), entry.size);
    // Without a bound: nobody waits for it but for a while, and a slow disk takes long.
    let proof = tokio::task::spawn_blocking(move || prove(&held, &digest, size)).await;
    let Some(trial) = entry.trial() else { return };
    end(&cache, &digest, &entry, trial, proof.unwrap_or_else(|error| Err(io::Error::other(error))));
}

fn prove(cache: &Cache, digest: &Digest, size: u64) -> io::Result<bool> {
    let path = cache.layout().unproven(digest);
    let file = File::open(&path)?;
    if file.metadata()?.len() != size || hash_until(&file, size)?.finish() != *digest {
        return Ok(false);
    }
    let _placing = cache.placing();
    cache.layout().publish(&path, digest)?;
    Ok(true)
}

fn end(cache: &Cache, digest: &Digest, entry: &Arc<Entry>, trial: &Trial, proof: io::Result<bool>) {
    match proof {
        Ok(true) => {
            tracing::debug!(%digest, "proven again");
            trial.end(true);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%digest, %error, "a cached blob cannot be proven now");
            trial.adjourn();
        }
        _ => {
            tracing::debug!(%digest, "not whole after the machine's restart, or superseded");
            trial.end(false);
            cache.give_back(digest, entry);
        }
    }
}
