//! Limits how many read repairs may be queued. If the home zone has lost its store, not every pull may write
//! to the journal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Read repairs that may be queued in one second. If a repair is not queued, the next pull of the blob tries
/// again.
const PER_SECOND_MAX: u64 = 50;

/// Counts read repairs within the current second, without a lock.
#[derive(Debug)]
pub(crate) struct ReadRepairs {
    start: Instant,
    /// The current second times 2^16, plus the number of repairs queued in it.
    second_and_count: AtomicU64,
}

const COUNT_BITS: u32 = 16;

impl ReadRepairs {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), second_and_count: AtomicU64::new(0) }
    }

    /// Takes one of this second's repairs. Returns `false` if there is none left.
    pub(crate) fn take(&self) -> bool {
        self.take_at(self.start.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |old: u64| {
            let count = if old >> COUNT_BITS == second { old & ((1 << COUNT_BITS) - 1) } else { 0 };
            (count < PER_SECOND_MAX).then_some((second << COUNT_BITS) | (count + 1))
        };
        self.second_and_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_per_second_are_bounded() {
        let repairs = ReadRepairs::new();
        for second in [0, 1, 7] {
            assert_eq!((0..1000).filter(|_| repairs.take_at(second)).count() as u64, PER_SECOND_MAX);
        }
    }
}
