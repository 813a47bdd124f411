//! Removes the files of evicted blobs, off the data path.

use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};

use backends::Digest;

use super::store::Cache;

/// Unlinks until the cache is gone. A file still being read keeps its bytes until it is closed.
pub(super) fn run(evicted: &Receiver<Digest>, cache: &Weak<Cache>) {
    while let Ok(digest) = evicted.recv() {
        let Some(cache) = cache.upgrade() else { return };
        remove(&cache, &digest);
    }
}

fn remove(cache: &Arc<Cache>, digest: &Digest) {
    // Under the lock, as a new fill of the same digest may be putting its file in place.
    let _placing = cache.placing();
    if cache.indexed(digest) {
        return;
    }
    cache.forget_open(digest);
    match std::fs::remove_file(cache.layout().blob(digest)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%digest, %error, "an evicted blob cannot be removed");
        }
        _ => tracing::debug!(%digest, "evicted"),
    }
}
