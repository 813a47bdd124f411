//! What is to be tidied up, off the data path.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use backends::Digest;

use super::room::Returned;
use super::store::Cache;

/// One thing to tidy up.
#[derive(Debug)]
pub(super) enum Chore {
    /// A blob that the index let go of: its file is to be removed.
    Evicted(Digest),
    /// Room that came to nothing.
    Returned(Returned),
}

/// What is to be tidied up; never more than there were blobs and fills.
#[derive(Debug, Default)]
pub(super) struct Chores {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    chores: Vec<Chore>,
    closed: bool,
}

impl Chores {
    pub(super) fn push(&self, chore: Chore) {
        self.lock().chores.push(chore);
        self.more.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Chore> {
        std::mem::take(&mut self.lock().chores)
    }

    /// Ends the reaper.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// Waits for work; `false` once closed.
    fn wait(&self) -> bool {
        let idle = |queue: &mut Queue| queue.chores.is_empty() && !queue.closed;
        let queue = self.more.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !queue.closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tidies up until the cache is gone.
pub(super) fn run(chores: &Arc<Chores>, cache: &Weak<Cache>) {
    while chores.wait() {
        let Some(cache) = cache.upgrade() else { return };
        cache.reap();
    }
}
