//! Removes files and reservations outside the data path.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use backends::Digest;
use parking_lot::{Condvar, Mutex};

use crate::cache::Cache;
use crate::reservation::Reserved;

/// The pause between two attempts to remove the files that could not be removed.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// One thing to remove.
#[derive(Debug)]
pub(super) enum Cleanup {
    /// A blob that the index evicted. Its file must be removed.
    Evicted(Digest),
    /// A reservation that was not used.
    Unused(Reserved),
}

/// The work of the reaper. There are never more entries than there were blobs and fills.
#[derive(Debug, Default)]
pub(super) struct Cleanups {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    cleanups: VecDeque<Cleanup>,
    closed: bool,
}

impl Cleanups {
    pub(super) fn push(&self, cleanup: Cleanup) {
        self.queue.lock().cleanups.push_back(cleanup);
        self.more.notify_one();
    }

    /// Adds evicted blobs.
    pub(super) fn evicted(&self, digests: Vec<Digest>) {
        digests.into_iter().for_each(|digest| self.push(Cleanup::Evicted(digest)));
    }

    /// Takes the first entries, at most `max`. Also returns whether none is left.
    pub(super) fn take(&self, max: usize) -> (Vec<Cleanup>, bool) {
        let cleanups = &mut self.queue.lock().cleanups;
        let count = cleanups.len().min(max);
        (cleanups.drain(..count).collect(), cleanups.is_empty())
    }

    /// Ends the reaper.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.more.notify_all();
    }

    /// Waits for work, but not longer than until `until`; `false` once closed.
    fn wait(&self, until: Instant) -> bool {
        let mut queue = self.queue.lock();
        let idle = |queue: &mut Queue| queue.cleanups.is_empty() && !queue.closed;
        self.more.wait_while_until(&mut queue, idle, until);
        !queue.closed
    }
}

/// Runs the reaper. It cleans up until the cache is gone.
pub(super) fn run(cleanups: &Arc<Cleanups>, cache: &Weak<Cache>) {
    let mut again = Instant::now() + RETRY_PAUSE;
    while cleanups.wait(again) {
        let Some(cache) = cache.upgrade() else { return };
        if Instant::now() >= again {
            again = Instant::now() + RETRY_PAUSE;
            cache.retry_removals();
        }
        cache.reap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If more blobs are evicted, disk work that waits for their removal does not take longer.
    #[test]
    fn only_so_many_are_taken_at_once() {
        let cleanups = Cleanups::default();
        cleanups.evicted((0..5_u8).map(|name| Digest::of(&[name])).collect());
        let take = |max| {
            let (taken, is_all) = cleanups.take(max);
            let of = |cleanup| if let Cleanup::Evicted(digest) = cleanup { Some(digest) } else { None };
            (taken.into_iter().filter_map(of).collect::<Vec<_>>(), is_all)
        };
        assert_eq!(take(3), ((0..3_u8).map(|name| Digest::of(&[name])).collect(), false));
        assert_eq!(take(3), ((3..5_u8).map(|name| Digest::of(&[name])).collect(), true));
        assert_eq!(take(3), (vec![], true));
    }
}
