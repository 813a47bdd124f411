//! Decides when a failed operation is tried again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Whether something may be used, in the terms of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circuit {
    /// It works, as far as the gateway knows.
    Closed,
    /// Its last failure, at this time, is long enough ago for one request to try it again.
    HalfOpen(Instant),
    /// Its last failure, at this time, is too recent for another try.
    Open(Instant),
}

/// The first pause after a failure, and the longest one after doubling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// The failures of one operation.
#[derive(Debug)]
pub(super) struct Backoff {
    pauses: Pauses,
    failing: Option<Failing>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    last: Instant,
    pause: Duration,
    until: Instant,
    /// Whether a request is trying it again.
    trying: bool,
}

impl Backoff {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, failing: None }
    }

    /// Records a failure. Returns the pause if it is the first failure.
    ///
    /// If several requests were in flight together and failed, they cause one pause. The next pause is longer
    /// only if a request after the first pause fails too.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        let Some(failing) = &mut self.failing else {
            let pause = self.pauses.first;
            self.failing = Some(Failing { since: now, last: now, pause, until: now + pause, trying: false });
            return Some(pause);
        };
        failing.last = now;
        if failing.trying || failing.until <= now {
            failing.pause = (failing.pause * 2).min(self.pauses.longest);
            failing.until = now + failing.pause;
            failing.trying = false;
        }
        None
    }

    /// Records a success. Returns how long the operation had failed, if it had.
    pub(super) fn worked(&mut self, now: Instant) -> Option<Duration> {
        self.failing.take().map(|failing| now - failing.since)
    }

    /// Whether the operation may be used now.
    pub(super) fn circuit(&self, now: Instant) -> Circuit {
        match &self.failing {
            None => Circuit::Closed,
            Some(failing) if failing.until <= now => Circuit::HalfOpen(failing.last),
            Some(failing) => Circuit::Open(failing.last),
        }
    }

    /// Reserves the one try after a pause for the caller. For other callers, another pause begins.
    pub(super) fn try_again(&mut self, now: Instant) {
        if let Some(failing) = self.failing.as_mut().filter(|failing| failing.until <= now) {
            failing.until = now + failing.pause;
            failing.trying = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    fn paused(backoff: &Backoff, now: Instant) -> bool {
        matches!(backoff.circuit(now), Circuit::Open(_))
    }

    #[test]
    fn pauses_double_to_their_bound() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(PAUSES);
        assert_eq!(backoff.failed(now), Some(PAUSES.first));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(paused(&backoff, now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(matches!(backoff.circuit(now), Circuit::HalfOpen(_)), "after {seconds} s");
            backoff.try_again(now);
            assert!(paused(&backoff, now), "one at a time");
            assert_eq!(backoff.failed(now), None, "no news");
        }
        assert_eq!(backoff.worked(now), Some(Duration::from_secs(91)));
        assert_eq!(backoff.circuit(now), Circuit::Closed);
        assert_eq!(backoff.failed(now), Some(PAUSES.first), "the pauses start again");
    }

    #[test]
    fn a_try_without_result_does_not_block_others() {
        let now = Instant::now();
        let mut backoff = Backoff::new(PAUSES);
        backoff.failed(now);
        let due = now + PAUSES.first;
        backoff.try_again(due);
        assert!(matches!(backoff.circuit(due + PAUSES.first), Circuit::HalfOpen(_)));
    }

    proptest! {
        #[test]
        fn never_paused_for_longer_than_the_bound(steps in prop::collection::vec((0u64..40_000, 0u8..3), 1..60)) {
            let mut now = Instant::now();
            let mut backoff = Backoff::new(PAUSES);
            for (pass, what) in steps {
                now += Duration::from_millis(pass);
                match what {
                    0 => drop(backoff.failed(now)),
                    1 => backoff.try_again(now),
                    _ => drop(backoff.worked(now)),
                }
                prop_assert!(!paused(&backoff, now + PAUSES.longest));
            }
        }

        #[test]
        fn concurrent_failures_count_once(times in prop::collection::vec(0u64..1000, 1..30)) {
            let now = Instant::now();
            let mut backoff = Backoff::new(PAUSES);
            backoff.failed(now);
            for pass in times {
                backoff.failed(now + Duration::from_millis(pass));
            }
            prop_assert!(!paused(&backoff, now + PAUSES.first));
        }
    }
}
