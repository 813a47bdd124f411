//! Evicted blobs, until their files are removed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use backends::Digest;

use super::store::Cache;

/// Digests whose files are to go; never more than there were blobs.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    digests: Vec<Digest>,
    closed: bool,
}

impl Evicted {
    pub(super) fn push(&self, digest: Digest) {
        self.lock().digests.push(digest);
        self.more.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Digest> {
        std::mem::take(&mut self.lock().digests)
    }

    /// Ends the reaper.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// Waits for work; `false` once closed.
    fn wait(&self) -> bool {
        let idle = |queue: &mut Queue| queue.digests.is_empty() && !queue.closed;
        let queue = self.more.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !queue.closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes evicted files off the data path until the cache is gone.
pub(super) fn run(evicted: &Arc<Evicted>, cache: &Weak<Cache>) {
    while evicted.wait() {
        let Some(cache) = cache.upgrade() else { return };
        cache.reap();
    }
}
