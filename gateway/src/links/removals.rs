//! When links were last removed, in a table of fixed size.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use backends::Digest;
use tokio::time::Instant;

/// The places of the table. Two links at one place count as removed together, which only costs questions to the
/// registry.
const PLACES: usize = 8192;

/// For each place, when a link at this place was last removed. Nothing is ever dropped from the table, so no removal is
/// lost, however many there are.
#[derive(Debug)]
pub(super) struct Removals {
    since: Instant,
    hasher: RandomState,
    /// Nanoseconds after `since`, plus one; 0 for never.
    last: Box<[AtomicU64]>,
}

impl Removals {
    pub(super) fn new() -> Self {
        let last = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { since: Instant::now(), hasher: RandomState::new(), last }
    }

    /// Records that the link with this name is removed now.
    pub(super) fn note(&self, name: &Digest) {
        self.place(name).fetch_max(self.nanoseconds(Instant::now()), Ordering::SeqCst);
    }

    /// Whether the link was removed at `asked` or later.
    pub(super) fn since(&self, name: &Digest, asked: Instant) -> bool {
        let removed = self.place(name).load(Ordering::SeqCst);
        removed != 0 && removed >= self.nanoseconds(asked)
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.since).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }

    fn place(&self, name: &Digest) -> &AtomicU64 {
        let hash = self.hasher.hash_one(name);
        let place = usize::try_from(hash % PLACES as u64).unwrap_or(0);
        &self.last[place]
    }
}
