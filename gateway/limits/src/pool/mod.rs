//! Shares limited resources between clients: connections, requests, the registry's connections.
//!
//! One type serves all of them. It is bounded, counts the use of each client, and is fair between waiting
//! clients.

mod identity;
mod queues;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::identity::{Identity, Network};
use self::queues::Ticket;
use self::table::Table;
use gateway_http::Problem;

/// The minimum time between two log lines about one pool.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// A number of slots for all clients together.
#[derive(Debug)]
pub struct Pool {
    /// The configuration key that bounds the pool.
    key: &'static str,
    log: Log,
    state: Mutex<PoolState>,
    waited: AtomicU64,
    refused: AtomicU64,
}

/// What the log says about waits and refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// It says nothing.
    Silent,
    /// It says that there are some.
    Told,
    /// It also says which configuration key sets the slots.
    WithAdvice,
}

#[derive(Debug)]
struct PoolState {
    table: Table,
    /// The channels on which waiting clients receive their slots.
    senders: HashMap<Ticket, oneshot::Sender<Slot>>,
    logged: Option<Instant>,
}

/// One slot of a pool. It is given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
    who: Identity,
}

/// The state of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolStatus {
    /// The configuration key that bounds the pool.
    pub key: &'static str,
    /// Slots in all.
    pub slots: usize,
    /// Slots in use.
    pub used: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Requests that had to wait so far.
    pub waited: u64,
    /// Requests that got no slot so far.
    pub refused: u64,
}

impl Pool {
    /// A pool with `slots` slots, bounded by the configuration key `key`. At most `waiting_max` requests may
    /// wait for a slot.
    pub fn new(key: &'static str, slots: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self::with_log(key, slots, waiting_max, Log::WithAdvice))
    }

    /// Like [`Pool::new`], for a pool that no configuration key bounds. `name` says what its slots are.
    pub fn fixed(name: &'static str, slots: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self::with_log(name, slots, waiting_max, Log::Told))
    }

    /// Like [`Pool::new`], for a pool that logs nothing because short waits are usual. If no configuration key bounds
    /// it, `key` is its name.
    pub fn unlogged(key: &'static str, slots: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self::with_log(key, slots, waiting_max, Log::Silent))
    }

    fn with_log(key: &'static str, slots: usize, waiting_max: usize, log: Log) -> Self {
        let state =
            PoolState { table: Table::new(slots, waiting_max), senders: HashMap::new(), logged: None };
        let (waited, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { key, log, state: Mutex::new(state), waited, refused }
    }

    /// Takes a slot, if this client may have one now.
    ///
    /// # Errors
    /// All slots are in use, or this client has its share of them.
    pub fn try_take(self: &Arc<Self>, who: &Identity) -> Result<Slot, Problem> {
        if self.state().table.take(who) {
            return Ok(self.slot(who));
        }
        Err(self.refuse())
    }

    /// Takes a slot as soon as this client may have one. Waits at most `bound`.
    ///
    /// # Errors
    /// The queue is full, or there was no slot for this client within `bound`.
    pub async fn take(self: &Arc<Self>, who: &Identity, bound: Duration) -> Result<Slot, Problem> {
        let waiting = {
            let mut state = self.state();
            if state.table.take(who) {
                drop(state);
                return Ok(self.slot(who));
            }
            let (ticket, displaced) = state.table.wait(who);
            displaced.and_then(|displaced| state.senders.remove(&displaced));
            ticket.map(|ticket| {
                let (sender, slot) = oneshot::channel();
                state.senders.insert(ticket, sender);
                (ticket, slot)
            })
        };
        let Some((ticket, slot)) = waiting else { return Err(self.refuse()) };
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.log("clients wait for a slot");
        let _waiting = QueuePlace { pool: self, who, ticket };
        match tokio::time::timeout(bound, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(self.refuse()),
        }
    }

    /// The present state of the pool.
    pub fn status(&self) -> PoolStatus {
        let state = self.state();
        PoolStatus {
            key: self.key,
            slots: state.table.slots(),
            used: state.table.used(),
            waiting: state.table.waiting(),
            waited: self.waited.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn slot(self: &Arc<Self>, who: &Identity) -> Slot {
        Slot { pool: Arc::clone(self), who: *who }
    }

    fn refuse(&self) -> Problem {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.log("clients get no slot");
        Problem::overload(format!("{} are all in use, or this client has its share of them", self.key))
    }

    /// Logs at most once a minute.
    fn log(&self, what: &str) {
        if self.log == Log::Silent {
            return;
        }
        {
            let mut state = self.state();
            if state.logged.is_some_and(|logged| logged.elapsed() < LOG_PAUSE) {
                return;
            }
            state.logged = Some(Instant::now());
        }
        let now = self.status();
        tracing::warn!(
            pool = self.key,
            slots = now.slots,
            in_use = now.used,
            waiting = now.waiting,
            waited = now.waited,
            refused = now.refused,
            "{what}: all slots are in use, or one client has its share of them{}",
            self.log.advice()
        );
    }

    /// Changes the number of slots, and how many requests may wait. Slots in use stay in use.
    pub fn resize(self: &Arc<Self>, slots: usize, waiting_max: usize) {
        self.serve_after(|table| table.resize(slots, waiting_max));
    }

    fn give_back(self: &Arc<Self>, who: &Identity) {
        self.serve_after(|table| table.give_back(who));
    }

    /// Makes a change, and gives the slots that are free then to those who wait.
    fn serve_after(self: &Arc<Self>, change: impl FnOnce(&mut Table)) {
        let mut served = Vec::new();
        {
            let mut state = self.state();
            change(&mut state.table);
            while let Some((ticket, who)) = state.table.next() {
                served.push((state.senders.remove(&ticket), self.slot(&who)));
            }
        }
        for (sender, slot) in served {
            // If the receiver has just stopped waiting, the slot is given back, and the next request gets it.
            if let Some(sender) = sender {
                drop(sender.send(slot));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock()
    }
}

impl Log {
    fn advice(self) -> &'static str {
        match self {
            Self::WithAdvice => "; if neither the clients nor the registry are slow, raise the limit",
            Self::Silent | Self::Told => "",
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.give_back(&self.who);
    }
}

/// A place in the queue. Dropping it leaves the queue.
struct QueuePlace<'a> {
    pool: &'a Pool,
    who: &'a Identity,
    ticket: Ticket,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.table.leave(self.who, self.ticket);
        state.senders.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: u8) -> Identity {
        Identity::peer([192, 0, 2, address].into(), false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_a_slot_or_in_time() {
        let pool = Pool::new("limits.x", 1, 2);
        let slot = pool.try_take(&client(1)).expect("free");
        let start = Instant::now();
        let bound = Duration::from_secs(3);
        assert!(pool.take(&client(2), bound).await.is_err());
        assert_eq!(start.elapsed(), bound);
        let second = client(2);
        let wait = pool.take(&second, bound);
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(pool.status().waiting, 1);
            drop(slot);
        };
        let (slot, ()) = tokio::join!(wait, leave);
        let slot = slot.expect("a slot became free");
        let status = pool.status();
        assert_eq!((status.used, status.waiting, status.waited, status.refused), (1, 0, 2, 1));
        drop(slot);
        assert_eq!(pool.status().used, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_slots_serve_those_who_wait_and_fewer_come_with_time() {
        let pool = Pool::new("limits.x", 1, 2);
        let first = pool.try_take(&client(1)).expect("free");
        let second = client(2);
        let mut waits = Box::pin(pool.take(&second, Duration::from_secs(3)));
        assert!(futures_util::poll!(&mut waits).is_pending());
        pool.resize(4, 2);
        let second = waits.await.expect("there are more slots now");
        pool.resize(1, 0);
        assert_eq!((pool.status().slots, pool.status().used), (1, 2));
        drop(first);
        assert!(pool.try_take(&client(3)).is_err(), "the one slot is in use");
        drop(second);
        assert!(pool.try_take(&client(3)).is_ok());
    }

    #[test]
    fn nobody_is_told_to_raise_what_no_key_sets() {
        assert!(Pool::new("limits.x", 1, 2).log.advice().contains("raise the limit"));
        assert_eq!(Pool::fixed("places", 1, 2).log.advice(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_the_queue_loses_no_slot() {
        let pool = Pool::new("limits.x", 1, 2);
        let slot = pool.try_take(&client(1)).expect("free");
        let second = client(2);
        let mut leaves = Box::pin(pool.take(&second, Duration::from_secs(3)));
        assert!(futures_util::poll!(&mut leaves).is_pending());
        // The slot is being sent when the client stops waiting.
        drop(slot);
        drop(leaves);
        assert_eq!(pool.status().used, 0);
        assert!(pool.try_take(&client(3)).is_ok());
    }
}
