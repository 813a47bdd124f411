//! What is to be removed, away from the data path.

use std::sync::{Arc, Weak};

use backends::Digest;
use parking_lot::{Condvar, Mutex};

use crate::cache::Cache;
use crate::reservation::Reserved;

/// One thing to remove.
#[derive(Debug)]
pub(super) enum Cleanup {
    /// A blob that the index evicted: its file is to be removed.
    Evicted(Digest),
    /// A reservation that was not used.
    Unused(Reserved),
}

/// What is to be removed; never more than there were blobs and fills.
#[derive(Debug, Default)]
pub(super) struct Cleanups {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    cleanups: Vec<Cleanup>,
    closed: bool,
}

impl Cleanups {
    pub(super) fn push(&self, cleanup: Cleanup) {
        self.queue.lock().cleanups.push(cleanup);
        self.more.notify_one();
    }

    /// Blobs that were evicted.
    pub(super) fn evicted(&self, digests: Vec<Digest>) {
        digests.into_iter().for_each(|digest| self.push(Cleanup::Evicted(digest)));
    }

    pub(super) fn take(&self) -> Vec<Cleanup> {
        std::mem::take(&mut self.queue.lock().cleanups)
    }

    /// Ends the reaper.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.more.notify_all();
    }

    /// Waits for work; `false` once closed.
    fn wait(&self) -> bool {
        let mut queue = self.queue.lock();
        self.more.wait_while(&mut queue, |queue| queue.cleanups.is_empty() && !queue.closed);
        !queue.closed
    }
}

/// The reaper: cleans up until the cache is gone.
pub(super) fn run(cleanups: &Arc<Cleanups>, cache: &Weak<Cache>) {
    while cleanups.wait() {
        let Some(cache) = cache.upgrade() else { return };
        cache.reap();
    }
}
