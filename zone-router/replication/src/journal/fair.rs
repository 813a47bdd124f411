//! Whose jobs are written next: repositories take turns, so that a small push does not wait behind
//! the flood of another repository.
//!
//! Jobs are written in pieces of [`ROWS_PER_TURN`] at most. Pieces with [`ROWS_AT_ONCE`] rows together
//! are in the engine's hands; those that share a commit there are bounded by that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::JournalError;

/// Rows that one repository writes before it is another one's turn.
pub(super) const ROWS_PER_TURN: usize = 256;

/// Rows in the engine's hands at once, of all repositories.
const ROWS_AT_ONCE: usize = 2048;

/// Rows of one repository that may wait for a turn: some 10 MiB of memory.
const REPOSITORY_ROWS: usize = 50_000;

/// Rows of all repositories that may wait for a turn: some 100 MiB of memory.
const WAITING_ROWS: usize = 500_000;

/// Hands out turns. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Fair(Arc<Mutex<State>>);

/// A turn: the rows are in the engine's hands until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    fair: Fair,
    rows: usize,
}

/// A piece that waits.
#[derive(Debug)]
struct Waiter {
    rows: usize,
    /// These, and those that its caller will write after them.
    held: usize,
    turn: oneshot::Sender<Turn>,
}

/// The pieces of one repository that wait; never empty.
#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    held: usize,
}

#[derive(Debug)]
struct State {
    /// Rows that the engine may be given.
    free: usize,
    /// Repositories that wait, in the order of their turns, each once.
    order: VecDeque<String>,
    queues: HashMap<String, Queue>,
    /// Rows that are held in memory by those who wait.
    held: usize,
}

impl Fair {
    pub(super) fn new() -> Self {
        let (order, queues) = (VecDeque::new(), HashMap::new());
        Self(Arc::new(Mutex::new(State { free: ROWS_AT_ONCE, order, queues, held: 0 })))
    }

    /// Waits for a turn of this repository to write `rows`, [`ROWS_PER_TURN`] at most. `behind` are the
    /// rows that its caller will write after those, and holds in memory meanwhile.
    ///
    /// # Errors
    /// As many rows wait already as may, or it had to make room for another repository meanwhile.
    pub(super) async fn turn(
        &self,
        repository: &str,
        rows: usize,
        behind: usize,
    ) -> Result<Turn, JournalError> {
        let mut turn = self.lock().queue(repository, rows, rows + behind)?;
        self.admit();
        match turn.try_recv() {
            Ok(turn) => Ok(turn),
            Err(_) => turn.await.map_err(|_| JournalError::Crowded { waiting: self.waiting() }),
        }
    }

    /// Rows of those who wait for a turn.
    pub(super) fn waiting(&self) -> usize {
        self.lock().held
    }

    /// Gives turns to those who are next, as long as there is room.
    fn admit(&self) {
        loop {
            let Some(next) = self.lock().next() else { return };
            let turn = Turn { fair: self.clone(), rows: next.rows };
            if let Err(mut refused) = next.turn.send(turn) {
                // Who waited has gone. This turn gives its rows back here and not as it is dropped,
                // which would call this again.
                self.lock().free += std::mem::take(&mut refused.rows);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(
        &mut self,
        repository: &str,
        rows: usize,
        held: usize,
    ) -> Result<oneshot::Receiver<Turn>, JournalError> {
        if self.is_full(repository, held) {
            self.forget_who_left();
            if self.is_full(repository, held) && !self.make_room(repository, held) {
                return Err(JournalError::Crowded { waiting: self.held });
            }
        }
        let (turn, given) = oneshot::channel();
        if !self.queues.contains_key(repository) {
            self.order.push_back(repository.to_owned());
        }
        let queue = self.queues.entry(repository.to_owned()).or_default();
        queue.waiters.push_back(Waiter { rows, held, turn });
        queue.held += held;
        self.held += held;
        Ok(given)
    }

    /// Whether so many rows more are too many, of this repository or of all. Who is alone is heard in any case: one
    /// push is bounded by its caller.
    fn is_full(&self, repository: &str, held: usize) -> bool {
        self.has_its_share(repository, held) || (self.held > 0 && self.held + held > WAITING_ROWS)
    }

    fn has_its_share(&self, repository: &str, held: usize) -> bool {
        let own = self.own(repository);
        own > 0 && own + held > REPOSITORY_ROWS
    }

    fn own(&self, repository: &str) -> usize {
        self.queues.get(repository).map_or(0, |queue| queue.held)
    }

    /// Where all together are too many, those leave that came last of the repositories that hold most; `false` where
    /// that would be this one itself.
    fn make_room(&mut self, repository: &str, held: usize) -> bool {
        if self.has_its_share(repository, held) {
            return false;
        }
        let own = self.own(repository) + held;
        while self.held > 0 && self.held + held > WAITING_ROWS {
            let most = self.queues.iter_mut().max_by_key(|(_, queue)| queue.held);
            let Some((name, queue)) = most.filter(|(_, queue)| queue.held > own) else { return false };
            let Some(last) = queue.waiters.pop_back() else { return false };
            queue.held -= last.held;
            self.held -= last.held;
            if queue.waiters.is_empty() {
                let name = name.clone();
                self.queues.remove(&name);
                self.order.retain(|waiting| *waiting != name);
            }
        }
        true
    }

    fn forget_who_left(&mut self) {
        for queue in self.queues.values_mut() {
            queue.waiters.retain(|waiter| !waiter.turn.is_closed());
            queue.held = queue.waiters.iter().map(|waiter| waiter.held).sum();
        }
        self.queues.retain(|_, queue| !queue.waiters.is_empty());
        self.order.retain(|name| self.queues.contains_key(name));
        self.held = self.queues.values().map(|queue| queue.held).sum();
    }

    /// The next piece, where there is room for it; a large one is waited for, not passed over.
    fn next(&mut self) -> Option<Waiter> {
        let name = self.order.front()?;
        let queue = self.queues.get_mut(name)?;
        if queue.waiters.front()?.rows > self.free {
            return None;
        }
        let waiter = queue.waiters.pop_front()?;
        queue.held -= waiter.held;
        self.held -= waiter.held;
        self.free -= waiter.rows;
        let done = queue.waiters.is_empty();
        let name = self.order.pop_front()?;
        if done {
            self.queues.remove(&name);
        } else {
            self.order.push_back(name);
        }
        Some(waiter)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.rows > 0 {
            self.fair.lock().free += self.rows;
            self.fair.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    /// A waiter of a repository, polled once.
    fn wait(
        fair: &Fair,
        repository: &'static str,
        rows: usize,
        behind: usize,
    ) -> impl Future<Output = Result<Turn, JournalError>> + Unpin {
        let fair = fair.clone();
        let mut turn = Box::pin(async move { fair.turn(repository, rows, behind).await });
        assert!((&mut turn).now_or_never().is_none(), "it waits");
        turn
    }

    fn full() -> (Fair, Turn) {
        let fair = Fair::new();
        let all = fair.turn("first", ROWS_AT_ONCE, 0).now_or_never().expect("free").expect("a turn");
        (fair, all)
    }

    fn free_and_waiting(fair: &Fair) -> (usize, usize) {
        let state = fair.lock();
        (state.free, state.held)
    }

    #[test]
    fn repositories_take_turns() {
        let (fair, all) = full();
        let mut flood: Vec<_> = (0..20).map(|_| wait(&fair, "flood", ROWS_AT_ONCE / 4, 0)).collect();
        let small = wait(&fair, "small", 1, 0);
        drop(all);
        let turns: Vec<_> = flood.iter_mut().map_while(|turn| turn.now_or_never()).collect();
        assert_eq!(turns.len(), 3, "the small one is second, and the fourth has no room beside it");
        assert!(small.now_or_never().is_some());
    }

    #[test]
    fn who_leaves_blocks_nobody() {
        let (fair, all) = full();
        let gone: Vec<_> = (0..20).map(|_| wait(&fair, "flood", ROWS_AT_ONCE, 0)).collect();
        drop(gone);
        let last = wait(&fair, "flood", ROWS_AT_ONCE, 0);
        drop(all);
        let turn = last.now_or_never().expect("its turn").expect("a turn");
        assert_eq!(free_and_waiting(&fair), (0, 0));
        drop(turn);
        assert_eq!(fair.lock().free, ROWS_AT_ONCE);
    }

    #[test]
    fn a_backlog_is_bounded_for_each_repository_and_for_all() {
        let (fair, _all) = full();
        let refused = |repository, behind| match fair.turn(repository, 1, behind).now_or_never() {
            Some(Err(error)) => matches!(error, JournalError::Crowded { .. }),
            _ => false,
        };
        let one = wait(&fair, "flood", 1, REPOSITORY_ROWS - 1);
        assert!(refused("flood", 0));
        let names: Vec<&'static str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let others: Vec<_> = names.iter().map(|name| wait(&fair, name, 1, REPOSITORY_ROWS - 1)).collect();
        assert_eq!(free_and_waiting(&fair), (0, WAITING_ROWS));
        // Who would then hold most itself is refused; for one that holds less, one of those leaves.
        assert!(refused("large", REPOSITORY_ROWS));
        let mut small = wait(&fair, "small", 1, 0);
        let all: Vec<_> = std::iter::once(one).chain(others).collect();
        let mut left = 0;
        let mut stay = Vec::new();
        for mut turn in all {
            match (&mut turn).now_or_never() {
                Some(Err(JournalError::Crowded { .. })) => left += 1,
                Some(other) => panic!("{other:?}"),
                None => stay.push(turn),
            }
        }
        assert_eq!((left, stay.len()), (1, 9));
        assert!((&mut small).now_or_never().is_none(), "it waits for its turn still");
        drop(stay);
        let again = wait(&fair, "flood", 1, 0);
        drop((small, again));
    }

    proptest! {
        /// Whatever comes and goes, at the end all rows are free and nobody is forgotten.
        #[test]
        fn no_row_is_lost(steps in proptest::collection::vec((0..3usize, 1..=ROWS_PER_TURN, any::<bool>()), 1..200)) {
            let fair = Fair::new();
            let mut waiters = VecDeque::new();
            for (repository, rows, leaves) in steps {
                let mut turn = Box::pin({
                    let fair = fair.clone();
                    async move { fair.turn(["a", "b", "c"][repository], rows, 0).await }
                });
                let given = (&mut turn).now_or_never();
                if leaves { waiters.pop_front(); } else { waiters.push_back((turn, given)); }
                let state = fair.lock();
                let waiting: usize = state.queues.values().map(|queue| queue.held).sum();
                prop_assert_eq!(waiting, state.held);
                prop_assert_eq!(state.order.len(), state.queues.len());
                prop_assert!(state.free <= ROWS_AT_ONCE);
            }
            drop(waiters);
            prop_assert_eq!(free_and_waiting(&fair), (ROWS_AT_ONCE, 0));
        }
    }
}
