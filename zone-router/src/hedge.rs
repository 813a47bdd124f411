//! Decides how many hedges may start.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The cost of one hedge.
const HEDGE: i64 = 1000;

/// The most credit for hedges that can be saved.
const SAVED_MAX: i64 = 10 * HEDGE;

/// A budget for hedges: a share of all reads. Unused credit is saved up to a bound. Uses no locks.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The credit that each read adds.
    income: i64,
    saved: AtomicI64,
    /// The number of reads that wait for a first byte.
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// A read that waits for its first byte.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Budget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    /// Allows hedges for `percent` of all reads, and none while more than `waiting_max` reads wait for a first byte.
    pub(crate) fn new(percent: f64, waiting_max: usize) -> Self {
        // A hedge costs 1000, so each percent is 10.
        let income = (percent.clamp(0.0, 100.0) * 10.0) as i64;
        Self { income, saved: AtomicI64::new(0), waiting: AtomicUsize::new(0), waiting_max }
    }

    /// Records that a read begins.
    pub(crate) fn read(&self) -> Waiting<'_> {
        // Many reads at once may save a little more than the bound, which does no harm.
        let saved = self.saved.load(Ordering::Relaxed);
        self.saved.fetch_add(self.income.min(SAVED_MAX - saved).max(0), Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Pays for a hedge. Returns whether it may start.
    pub(crate) fn take(&self) -> bool {
        if self.waiting.load(Ordering::Relaxed) > self.waiting_max {
            return false;
        }
        let pay = |saved: i64| (saved >= HEDGE).then_some(saved - HEDGE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }

    /// Returns the cost of a hedge. The first request failed, so the second one was needed anyway.
    pub(crate) fn give_back(&self) {
        let more = |saved: i64| Some((saved + HEDGE).min(SAVED_MAX.max(saved)));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_the_reads() {
        let budget = Budget::new(5.0, 10);
        let hedges = (0..1000).filter(|_| {
            let _waiting = budget.read();
            budget.take()
        });
        assert_eq!(hedges.count(), 50);
        budget.give_back();
        assert!(budget.take() && !budget.take());
    }

    #[test]
    fn saved_up_within_bounds() {
        let budget = Budget::new(100.0, 10);
        (0..1000).for_each(|_| drop(budget.read()));
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }

    #[test]
    fn none_under_overload() {
        let budget = Budget::new(100.0, 2);
        let reads: Vec<_> = (0..3).map(|_| budget.read()).collect();
        assert!(!budget.take());
        drop(reads);
        assert!(budget.take());
    }
}
