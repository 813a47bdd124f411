//! Decides whose jobs are written next. Repositories alternate in a fair queue, so that a small push does not wait
//! behind a large push to another repository.
//!
//! Jobs are written in batches of at most [`ROWS_PER_PERMIT`] rows, each with a permit. At any time, the permits cover
//! at most [`ROWS_AT_ONCE`] rows, so that a commit never contains more rows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::JournalError;

/// The most rows that a repository writes before the next repository has its turn.
pub(super) const ROWS_PER_PERMIT: usize = 256;

/// The most rows that the engine writes at once, over all repositories.
const ROWS_AT_ONCE: usize = 2048;

/// The most rows of one repository that may wait for a permit. They take about 10 MiB of memory.
const REPOSITORY_ROWS: usize = 50_000;

/// The most rows of all repositories that may wait for a permit. They take about 100 MiB of memory.
const WAITING_ROWS: usize = 500_000;

/// Gives out permits to write. Clones share one queue.
#[derive(Debug, Clone)]
pub(super) struct FairQueue(Arc<Mutex<State>>);

/// The permit to write some rows. They count as being written until the permit is dropped.
#[derive(Debug)]
pub(super) struct WritePermit {
    queue: FairQueue,
    rows: usize,
}

/// A batch that waits for a permit.
#[derive(Debug)]
struct Waiter {
    rows: usize,
    /// The rows of this batch, and the rows that its caller will write after it.
    held: usize,
    permit: oneshot::Sender<WritePermit>,
}

/// The waiting batches of one repository; never empty.
#[derive(Debug, Default)]
struct Backlog {
    waiters: VecDeque<Waiter>,
    held: usize,
}

#[derive(Debug)]
struct State {
    /// The number of rows for which permits may still be given.
    free: usize,
    /// The repositories that wait, each once, in the order in which they write.
    order: VecDeque<String>,
    backlogs: HashMap<String, Backlog>,
    /// The number of rows that waiting callers hold in memory.
    held: usize,
}

impl FairQueue {
    pub(super) fn new() -> Self {
        let (order, backlogs) = (VecDeque::new(), HashMap::new());
        Self(Arc::new(Mutex::new(State { free: ROWS_AT_ONCE, order, backlogs, held: 0 })))
    }

    /// Waits for the permit to write `rows` rows of this repository, at most [`ROWS_PER_PERMIT`]. `behind` is the
    /// number of rows that the caller holds in memory and will write later.
    ///
    /// # Errors
    /// The queue is full, or this batch was removed from it in favour of another repository.
    pub(super) async fn permit(
        &self,
        repository: &str,
        rows: usize,
        behind: usize,
    ) -> Result<WritePermit, JournalError> {
        let mut permit = self.lock().push(repository, rows, rows + behind)?;
        self.admit();
        match permit.try_recv() {
            Ok(permit) => Ok(permit),
            Err(_) => permit.await.map_err(|_| JournalError::Crowded { waiting: self.waiting() }),
        }
    }

    /// The number of rows that wait for a permit.
    pub(super) fn waiting(&self) -> usize {
        self.lock().held
    }

    /// Gives permits to the next batches while there are free rows.
    fn admit(&self) {
        loop {
            let Some(next) = self.lock().next() else { return };
            let permit = WritePermit { queue: self.clone(), rows: next.rows };
            if let Err(mut refused) = next.permit.send(permit) {
                // The caller has gone. The rows are returned here, because dropping the permit would call this function
                // again.
                self.lock().free += std::mem::take(&mut refused.rows);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn push(
        &mut self,
        repository: &str,
        rows: usize,
        held: usize,
    ) -> Result<oneshot::Receiver<WritePermit>, JournalError> {
        if self.is_full(repository, held) {
            self.remove_cancelled();
            if self.is_full(repository, held) && !self.make_room(repository, held) {
                return Err(JournalError::Crowded { waiting: self.held });
            }
        }
        let (permit, receiver) = oneshot::channel();
        if !self.backlogs.contains_key(repository) {
            self.order.push_back(repository.to_owned());
        }
        let backlog = self.backlogs.entry(repository.to_owned()).or_default();
        backlog.waiters.push_back(Waiter { rows, held, permit });
        backlog.held += held;
        self.held += held;
        Ok(receiver)
    }

    /// Whether `held` more rows are too many for this repository or for the whole queue. If no other batch waits, a
    /// push is always accepted, because its caller bounds its size.
    fn is_full(&self, repository: &str, held: usize) -> bool {
        self.has_too_many(repository, held) || (self.held > 0 && self.held + held > WAITING_ROWS)
    }

    fn has_too_many(&self, repository: &str, held: usize) -> bool {
        let own = self.own(repository);
        own > 0 && own + held > REPOSITORY_ROWS
    }

    fn own(&self, repository: &str) -> usize {
        self.backlogs.get(repository).map_or(0, |backlog| backlog.held)
    }

    /// If the queue is full, removes the latest batches of the repositories that hold the most rows. Returns `false` if
    /// this repository itself would hold the most.
    fn make_room(&mut self, repository: &str, held: usize) -> bool {
        if self.has_too_many(repository, held) {
            return false;
        }
        let own = self.own(repository) + held;
        while self.held > 0 && self.held + held > WAITING_ROWS {
            let most = self.backlogs.iter_mut().max_by_key(|(_, backlog)| backlog.held);
            let Some((name, backlog)) = most.filter(|(_, backlog)| backlog.held > own) else { return false };
            let Some(last) = backlog.waiters.pop_back() else { return false };
            backlog.held -= last.held;
            self.held -= last.held;
            if backlog.waiters.is_empty() {
                let name = name.clone();
                self.backlogs.remove(&name);
                self.order.retain(|waiting| *waiting != name);
            }
        }
        true
    }

    fn remove_cancelled(&mut self) {
        for backlog in self.backlogs.values_mut() {
            backlog.waiters.retain(|waiter| !waiter.permit.is_closed());
            backlog.held = backlog.waiters.iter().map(|waiter| waiter.held).sum();
        }
        self.backlogs.retain(|_, backlog| !backlog.waiters.is_empty());
        self.order.retain(|name| self.backlogs.contains_key(name));
        self.held = self.backlogs.values().map(|backlog| backlog.held).sum();
    }

    /// The next batch, if enough rows are free for it. Smaller batches do not overtake a large one.
    fn next(&mut self) -> Option<Waiter> {
        let name = self.order.front()?;
        let backlog = self.backlogs.get_mut(name)?;
        if backlog.waiters.front()?.rows > self.free {
            return None;
        }
        let waiter = backlog.waiters.pop_front()?;
        backlog.held -= waiter.held;
        self.held -= waiter.held;
        self.free -= waiter.rows;
        let done = backlog.waiters.is_empty();
        let name = self.order.pop_front()?;
        if done {
            self.backlogs.remove(&name);
        } else {
            self.order.push_back(name);
        }
        Some(waiter)
    }
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        if self.rows > 0 {
            self.queue.lock().free += self.rows;
            self.queue.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    /// A batch of a repository that waits. It is polled once.
    fn wait(
        queue: &FairQueue,
        repository: &'static str,
        rows: usize,
        behind: usize,
    ) -> impl Future<Output = Result<WritePermit, JournalError>> + Unpin {
        let queue = queue.clone();
        let mut permit = Box::pin(async move { queue.permit(repository, rows, behind).await });
        assert!((&mut permit).now_or_never().is_none(), "it waits");
        permit
    }

    fn full() -> (FairQueue, WritePermit) {
        let queue = FairQueue::new();
        let all = queue.permit("first", ROWS_AT_ONCE, 0).now_or_never().expect("free").expect("a permit");
        (queue, all)
    }

    fn free_and_waiting(queue: &FairQueue) -> (usize, usize) {
        let state = queue.lock();
        (state.free, state.held)
    }

    #[test]
    fn repositories_alternate() {
        let (queue, all) = full();
        let mut flood: Vec<_> = (0..20).map(|_| wait(&queue, "flood", ROWS_AT_ONCE / 4, 0)).collect();
        let small = wait(&queue, "small", 1, 0);
        drop(all);
        let permits: Vec<_> = flood.iter_mut().map_while(|permit| permit.now_or_never()).collect();
        assert_eq!(permits.len(), 3, "the small one is second, and there are no rows left for the fourth");
        assert!(small.now_or_never().is_some());
    }

    #[test]
    fn a_cancelled_batch_blocks_nobody() {
        let (queue, all) = full();
        let gone: Vec<_> = (0..20).map(|_| wait(&queue, "flood", ROWS_AT_ONCE, 0)).collect();
        drop(gone);
        let last = wait(&queue, "flood", ROWS_AT_ONCE, 0);
        drop(all);
        let permit = last.now_or_never().expect("it is next").expect("a permit");
        assert_eq!(free_and_waiting(&queue), (0, 0));
        drop(permit);
        assert_eq!(queue.lock().free, ROWS_AT_ONCE);
    }

    #[test]
    fn a_backlog_is_bounded_for_each_repository_and_for_all() {
        let (queue, _all) = full();
        let refused = |repository, behind| match queue.permit(repository, 1, behind).now_or_never() {
            Some(Err(error)) => matches!(error, JournalError::Crowded { .. }),
            _ => false,
        };
        let one = wait(&queue, "flood", 1, REPOSITORY_ROWS - 1);
        assert!(refused("flood", 0));
        let names: Vec<&'static str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let others: Vec<_> = names.iter().map(|name| wait(&queue, name, 1, REPOSITORY_ROWS - 1)).collect();
        assert_eq!(free_and_waiting(&queue), (0, WAITING_ROWS));
        // A repository that would then hold the most rows is refused. For a repository that holds fewer, a batch of
        // another one is removed.
        assert!(refused("large", REPOSITORY_ROWS));
        let mut small = wait(&queue, "small", 1, 0);
        let all: Vec<_> = std::iter::once(one).chain(others).collect();
        let mut left = 0;
        let mut stay = Vec::new();
        for mut permit in all {
            match (&mut permit).now_or_never() {
                Some(Err(JournalError::Crowded { .. })) => left += 1,
                Some(other) => panic!("{other:?}"),
                None => stay.push(permit),
            }
        }
        assert_eq!((left, stay.len()), (1, 9));
        assert!((&mut small).now_or_never().is_none(), "it still waits");
        drop(stay);
        let again = wait(&queue, "flood", 1, 0);
        drop((small, again));
    }

    proptest! {
        /// Whatever batches come and go, at the end all rows are free and no batch is forgotten.
        #[test]
        fn no_row_is_lost(steps in proptest::collection::vec((0..3usize, 1..=ROWS_PER_PERMIT, any::<bool>()), 1..200)) {
            let queue = FairQueue::new();
            let mut waiters = VecDeque::new();
            for (repository, rows, leaves) in steps {
                let mut permit = Box::pin({
                    let queue = queue.clone();
                    async move { queue.permit(["a", "b", "c"][repository], rows, 0).await }
                });
                let given = (&mut permit).now_or_never();
                if leaves { waiters.pop_front(); } else { waiters.push_back((permit, given)); }
                let state = queue.lock();
                let waiting: usize = state.backlogs.values().map(|backlog| backlog.held).sum();
                prop_assert_eq!(waiting, state.held);
                prop_assert_eq!(state.order.len(), state.backlogs.len());
                prop_assert!(state.free <= ROWS_AT_ONCE);
            }
            drop(waiters);
            prop_assert_eq!(free_and_waiting(&queue), (ROWS_AT_ONCE, 0));
        }
    }
}
