//! How many copies home reads may queue: a home that lost its store must not have every pull write
//! to the journal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Copies home that reads may queue in one second. What is not queued is found by the next pull.
const PER_SECOND_MAX: u64 = 50;

/// Counts within the present second; no lock.
#[derive(Debug)]
pub(crate) struct ReadRepairs {
    start: Instant,
    /// The second, times 2^16, and how many were queued in it.
    second_and_count: AtomicU64,
}

const COUNT_BITS: u32 = 16;

impl ReadRepairs {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), second_and_count: AtomicU64::new(0) }
    }

    /// Whether one more may be queued now.
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
    fn so_many_a_second() {
        let repairs = ReadRepairs::new();
        for second in [0, 1, 7] {
            assert_eq!((0..1000).filter(|_| repairs.take_at(second)).count() as u64, PER_SECOND_MAX);
        }
    }
}
