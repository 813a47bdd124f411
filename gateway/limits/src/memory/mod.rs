//! One budget for memory. Memory that clients can make the gateway hold is reserved before it is allocated. If the
//! budget has no room, the reservation is refused.

mod give_back;
mod ledger;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

pub use self::give_back::give_back;
use self::ledger::Ledger;

/// Bytes for a client's TLS session, its HTTP state and the buffers of an idle connection.
pub const CONNECTION: u64 = 48 * 1024;

/// Bytes for a request and the first pieces of its answer. The headers are counted separately.
pub const REQUEST: u64 = 32 * 1024;

/// Bytes of the registry's answer that are buffered for a forwarded request.
pub const FORWARDED: u64 = 64 * 1024;

/// Bytes of the body that are buffered for a forwarded request, in both directions together.
pub const FORWARDED_BODY: u64 = 128 * 1024;

/// Bytes of a blob that are read ahead from a zone or from the registry.
pub const BLOB_READ: u64 = 1024 * 1024;

/// The minimum time between two log lines about refusals.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Connections of clients.
    Connections,
    /// Requests, with their headers and the minimum that their answers need.
    Requests,
    /// Larger pieces of answers, for clients that read fast enough.
    Answers,
    /// HTTP/2 windows of connections that send a body.
    Windows,
    /// Manifests that are read while they are pushed, and the manifests of a pushed index.
    Manifests,
    /// Blobs that are read from a zone or from the registry.
    Blobs,
}

impl Use {
    /// All uses.
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

/// The budget `limits.memory`, shared by all its users.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<MemoryState>>);

#[derive(Debug)]
struct MemoryState {
    ledger: Ledger,
    logged: Option<Instant>,
}

/// The state of the budget. The values are in the order of [`Use::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct MemoryStatus {
    /// The whole budget, in bytes.
    pub budget: u64,
    /// Bytes reserved.
    pub reserved: [u64; Use::ALL.len()],
    /// Refused reservations so far.
    pub refused: [u64; Use::ALL.len()],
}

impl Memory {
    /// A budget of this many bytes.
    pub fn new(budget: u64) -> Self {
        Self(Arc::new(Mutex::new(MemoryState { ledger: Ledger::new(budget), logged: None })))
    }

    /// Changes the budget to this many bytes. What is reserved stays reserved.
    pub fn set_budget(&self, budget: u64) {
        self.state().ledger.set_budget(budget);
    }

    /// Reserves bytes for a client, or for all clients together. Returns `None` if the budget or the client's
    /// share has no room. The caller must then allocate nothing.
    pub fn reserve(&self, what: Use, holder: Option<Holder>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { memory: self.clone(), what, holder, bytes: 0 };
        reservation.needs(bytes).then_some(reservation)
    }

    /// The present state of the budget.
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
            "limits.memory has no room; requests are refused; raise it, or run more replicas"
        );
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.0.lock()
    }
}

/// Whose memory it is.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The address of the client.
    pub address: IpAddr,
    /// The client's own connection. `None` behind a trusted proxy.
    pub connection: Option<u64>,
}

/// Reserved bytes. They are returned when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    what: Use,
    holder: Option<Holder>,
    bytes: u64,
}

impl Reservation {
    /// The number of reserved bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Like [`Reservation::resize`], for a caller that cannot continue without the bytes. A refusal is
    /// counted and logged.
    pub fn needs(&mut self, bytes: u64) -> bool {
        let resized = self.resize(bytes);
        if !resized {
            self.memory.refused(self.what, self.holder, bytes);
        }
        resized
    }

    /// Whether so many more bytes would leave a quarter of the budget free. Uses that can be given up ask this first.
    pub fn is_spare(&self, more: u64) -> bool {
        self.memory.state().ledger.is_spare(more)
    }

    /// Makes the reservation larger or smaller. Returns `false` and changes nothing if there is no room. A
    /// smaller size always succeeds.
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
    async fn a_smaller_budget_takes_nothing_away() {
        let memory = Memory::new(1000);
        let held = memory.reserve(Use::Requests, None, 600).expect("there is room");
        memory.set_budget(500);
        assert_eq!((memory.status().budget, held.bytes()), (500, 600));
        assert!(memory.reserve(Use::Requests, None, 1).is_none());
        drop(held);
        assert!(memory.reserve(Use::Requests, None, 500).is_some());
    }

    #[tokio::test]
    async fn a_dropped_reservation_is_returned() {
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
