//! Memory as one budget: what clients can make the gateway hold is reserved before it is allocated, and
//! refused where the budget has no room for it.

mod give_back;
mod ledger;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::give_back::give_back;
use self::ledger::Ledger;

/// A client's TLS session, its connection's HTTP state and the buffers of an idle connection, in bytes.
pub const CONNECTION: u64 = 48 * 1024;

/// A request and the first pieces of its answer, in bytes; its headers are counted beside it.
pub const REQUEST: u64 = 32 * 1024;

/// What a request that goes on to the registry buffers of the registry's answer, in bytes.
pub const FORWARDED: u64 = 64 * 1024;

/// What it buffers of its body, in bytes, both ways of the gateway together.
pub const FORWARDED_BODY: u64 = 128 * 1024;

/// What is read ahead of a blob that comes from a zone or from the registry, in bytes.
pub const BLOB_READ: u64 = 1024 * 1024;

/// A refusal is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Connections of clients.
    Connections,
    /// Requests, with their headers and the least that their answers need.
    Requests,
    /// Larger pieces of answers, for clients that take them.
    Answers,
    /// HTTP/2 windows of connections that bring a body.
    Windows,
    /// Manifests that are read along, and those of a pushed index.
    Manifests,
    /// Blobs on their way in from a zone or from the registry.
    Blobs,
}

impl Use {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Connections, Self::Requests, Self::Answers, Self::Windows, Self::Manifests, Self::Blobs];

    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Answers => "answers",
            Self::Windows => "windows",
            Self::Manifests => "manifests",
            Self::Blobs => "blobs",
        }
    }
}

/// `limits.memory`, shared by all who draw from it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ledger: Ledger,
    logged: Option<Instant>,
}

/// The budget at a glance; values in the order of [`Use::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct MemoryStatus {
    /// Bytes in all.
    pub budget: u64,
    /// Bytes reserved.
    pub reserved: [u64; Use::ALL.len()],
    /// Reservations refused so far.
    pub refused: [u64; Use::ALL.len()],
}

impl Memory {
    /// A budget of so many bytes.
    pub fn new(budget: u64) -> Self {
        Self(Arc::new(Mutex::new(State { ledger: Ledger::new(budget), logged: None })))
    }

    /// Reserves bytes for a client, or for all of them together; `None` if the budget, or what the client
    /// may have of it, has no room. Nothing may be allocated then.
    pub fn reserve(&self, what: Use, holder: Option<Holder>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { memory: self.clone(), what, holder, bytes: 0 };
        reservation.needs(bytes).then_some(reservation)
    }

    /// The budget at this moment.
    #[must_use]
    pub fn status(&self) -> MemoryStatus {
        self.state().ledger.status()
    }

    fn refused(&self, what: Use, holder: Option<Holder>, bytes: u64) {
        let mut state = self.state();
        state.ledger.count_refusal(what);
        let now = Instant::now();
        if state.logged.is_some_and(|logged| now < logged + LOG_INTERVAL) {
            return;
        }
        state.logged = Some(now);
        let MemoryStatus { budget, reserved, .. } = state.ledger.status();
        drop(state);
        tracing::warn!(
            budget,
            reserved = reserved.iter().sum::<u64>(),
            what = what.as_str(),
            client = holder.map(|holder| tracing::field::display(holder.address)),
            bytes,
            "limits.memory has no room: refused, as others may be within the next minute; raise it, or run more replicas"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose memory it is.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The client's address.
    pub address: IpAddr,
    /// Its own connection; behind a trusted proxy it has none.
    pub connection: Option<u64>,
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    what: Use,
    holder: Option<Holder>,
    bytes: u64,
}

impl Reservation {
    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As [`Reservation::resize`], for what cannot go on without: a refusal is counted and logged.
    pub fn needs(&mut self, bytes: u64) -> bool {
        let resized = self.resize(bytes);
        if !resized {
            self.memory.refused(self.what, self.holder, bytes);
        }
        resized
    }

    /// Whether so many more bytes would leave a quarter of the budget free: for what can do without.
    pub fn is_spare(&self, more: u64) -> bool {
        self.memory.state().ledger.is_spare(more)
    }

    /// Makes it larger or smaller; `false` if there is no room, and it stays as it is. Smaller always works.
    pub fn resize(&mut self, bytes: u64) -> bool {
        let resized = {
            let ledger = &mut self.memory.state().ledger;
            match bytes.checked_sub(self.bytes) {
                Some(more) => ledger.take(self.what, self.holder, more),
                None => {
                    ledger.give(self.what, self.holder, self.bytes - bytes);
                    true
                }
            }
        };
        if resized {
            self.bytes = bytes;
        }
        resized
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_reserved_comes_back() {
        let memory = Memory::new(1000);
        let mut held = memory.reserve(Use::Requests, None, 600).expect("there is room");
        assert!(memory.reserve(Use::Blobs, None, 500).is_none());
        assert!(!held.resize(1001));
        assert_eq!(held.bytes(), 600);
        assert!(held.resize(100));
        let blob = memory.reserve(Use::Blobs, None, 900).expect("there is room");
        let status = memory.status();
        assert_eq!((status.budget, status.reserved), (1000, [0, 100, 0, 0, 0, 900]));
        assert_eq!(status.refused, [0, 0, 0, 0, 0, 1]);
        drop((held, blob));
        assert_eq!(memory.status().reserved, [0; 6]);
    }
}
