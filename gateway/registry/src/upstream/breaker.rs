//! Whether requests go to an instance: pure; time is passed in.
//!
//! ```text
//!            no connection or nothing behind its proxy; 3 times 500 in a row;
//!            a probe that it says no to; 2 probes in a row without an answer
//!   closed ──────────────────────────────────────────────────────────────────▶ open ◀─┐
//!     ▲                                                                          │     │ any failure
//!     └─────────── good probes in a row ─────────── half-open ◀── a good probe ──┘     │
//!                                                       └───────────────────────────────┘
//! ```
//!
//! Probes alone close it: no client's request is spent to find out whether an instance is back.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Standing;

/// Answers 500 in a row that open it. One may be about what was asked for: a manifest that Quay cannot
/// read is answered 500 by every instance.
const ERRORS: u8 = 3;

/// Probes in a row without an answer that open it: one may have met a pause of the machine.
const SILENCES: u8 = 2;

/// Good probes in a row that close it, …
const GOOD: u32 = 2;

/// … and at most, as each opening soon after a closing doubles them.
const GOOD_MAX: u32 = 16;

/// An opening so long after the last closing needs [`GOOD`] probes again.
const CALM: Duration = Duration::from_secs(60);

/// What was seen of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It answered a request, and not with an error of its own.
    Answered,
    /// It answered 500 to a request that reads or begins an upload.
    Error,
    /// There was no connection, nothing behind its proxy, or no answer within the bound of a request that reads.
    Gone,
    /// A probe: it serves.
    Well,
    /// A probe: it says itself that it does not serve.
    Unwell,
    /// A probe: no answer, or no connection.
    Silent,
}

/// What evidence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is out of use from now on.
    Opened,
    /// It is in use again, after so long.
    Closed(Duration),
}

/// The breaker of one instance.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Open>,
    errors: u8,
    silences: u8,
    /// Good probes that the latest opening needs or needed.
    needed: u32,
    closed_at: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    last: Instant,
    why: String,
    /// Whether its last probe had no answer.
    silent: bool,
    good: u32,
}

impl Breaker {
    /// Takes notice; `why` says in words what a failure was.
    pub(super) fn note(&mut self, now: Instant, evidence: Evidence, why: &str) -> Option<Change> {
        let enough = match evidence {
            Evidence::Answered => {
                self.errors = 0;
                return None;
            }
            Evidence::Well => {
                self.silences = 0;
                return self.good_probe(now);
            }
            Evidence::Error => counted(&mut self.errors, ERRORS),
            Evidence::Silent => counted(&mut self.silences, SILENCES),
            Evidence::Gone | Evidence::Unwell => true,
        };
        if evidence == Evidence::Unwell {
            self.silences = 0;
        }
        if let Some(open) = &mut self.open {
            (open.last, open.good) = (now, 0);
            open.silent = match evidence {
                Evidence::Silent => true,
                Evidence::Unwell => false,
                _ => open.silent,
            };
            why.clone_into(&mut open.why);
            return None;
        }
        enough.then(|| self.opened(now, evidence == Evidence::Silent, why))
    }

    fn opened(&mut self, now: Instant, silent: bool, why: &str) -> Change {
        let again = self.closed_at.is_some_and(|at| now - at < CALM);
        self.needed = if again { (self.needed * 2).min(GOOD_MAX) } else { GOOD };
        self.open = Some(Open { since: now, last: now, why: why.to_owned(), silent, good: 0 });
        Change::Opened
    }

    fn good_probe(&mut self, now: Instant) -> Option<Change> {
        let open = self.open.as_mut()?;
        open.good += 1;
        open.silent = false;
        if open.good < self.needed {
            return None;
        }
        let since = open.since;
        self.open = None;
        self.errors = 0;
        self.closed_at = Some(now);
        Some(Change::Closed(now - since))
    }

    /// For the choice of an instance.
    pub(super) fn standing(&self) -> Standing {
        self.open.as_ref().map_or(Standing::Fine, |open| Standing::Paused(open.last))
    }

    /// Whether it is out of use and its probes are not answered.
    pub(super) fn is_silent(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.silent)
    }

    /// Whether anything speaks against it, so that it is probed sooner.
    pub(super) fn is_doubtful(&self) -> bool {
        self.open.is_some() || self.silences > 0 || self.errors > 0
    }

    /// For tables and labels.
    pub(super) fn state(&self) -> &'static str {
        match &self.open {
            None => "closed",
            Some(open) if open.good > 0 => "half-open",
            Some(_) => "open",
        }
    }

    /// What its last failure was, while it is out of use.
    pub(super) fn why(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.why.as_str())
    }
}

/// Counts one more; whether that is enough.
fn counted(count: &mut u8, enough: u8) -> bool {
    *count = count.saturating_add(1);
    *count >= enough
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Evidence; 6] = [
        Evidence::Answered,
        Evidence::Error,
        Evidence::Gone,
        Evidence::Well,
        Evidence::Unwell,
        Evidence::Silent,
    ];

    fn after(evidence: &[Evidence]) -> &'static str {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for seen in evidence {
            breaker.note(now, *seen, "why");
        }
        breaker.state()
    }

    #[test]
    fn what_opens_it() {
        use Evidence::{Answered, Error, Gone, Silent, Unwell, Well};
        for opens in [&[Gone][..], &[Unwell], &[Silent, Silent], &[Error, Error, Error]] {
            assert_eq!(after(opens), "open", "{opens:?}");
        }
        for stays in [
            &[Silent, Well, Silent][..],
            &[Error, Error, Answered, Error, Error],
            &[Silent, Error, Error],
            &[Well, Answered],
        ] {
            assert_eq!(after(stays), "closed", "{stays:?}");
        }
    }

    #[test]
    fn probes_alone_close_it() {
        use Evidence::{Answered, Gone, Silent, Well};
        assert_eq!(after(&[Gone, Answered, Answered, Answered]), "open");
        assert_eq!(after(&[Gone, Well]), "half-open");
        assert_eq!(after(&[Gone, Well, Silent, Well]), "half-open");
        assert_eq!(after(&[Gone, Well, Well]), "closed");
    }

    #[test]
    fn one_that_fails_soon_again_is_tried_for_longer() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for good in [2, 4, 8, 16, 16] {
            assert_eq!(breaker.note(now, Evidence::Gone, "why"), Some(Change::Opened));
            for probe in 1..good {
                assert_eq!(breaker.note(now, Evidence::Well, ""), None, "{probe} of {good}");
            }
            assert_eq!(breaker.note(now, Evidence::Well, ""), Some(Change::Closed(Duration::ZERO)));
        }
        now += CALM;
        breaker.note(now, Evidence::Gone, "why");
        breaker.note(now, Evidence::Well, "");
        assert!(matches!(breaker.note(now, Evidence::Well, ""), Some(Change::Closed(_))));
    }

    #[test]
    fn it_is_silent_as_long_as_its_last_probe_was() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for (evidence, silent) in [
            (Evidence::Silent, false),
            (Evidence::Silent, true),
            (Evidence::Gone, true),
            (Evidence::Unwell, false),
            (Evidence::Silent, true),
            (Evidence::Well, false),
        ] {
            breaker.note(now, evidence, "why");
            assert_eq!(breaker.is_silent(), silent, "{evidence:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_came_before_enough_good_probes_close_it(steps in prop::collection::vec((0usize..6, 0u64..90), 0..80)) {
            let mut breaker = Breaker::default();
            let mut now = Instant::now();
            for (evidence, pass) in steps {
                now += Duration::from_secs(pass);
                let was = breaker.state();
                let change = breaker.note(now, ALL[evidence], "why");
                prop_assert_eq!(change == Some(Change::Opened), was == "closed" && breaker.state() == "open");
                prop_assert_eq!(matches!(change, Some(Change::Closed(_))), was != "closed" && breaker.state() == "closed");
                prop_assert_eq!(breaker.why().is_some(), breaker.state() != "closed");
            }
            for _ in 0..GOOD_MAX {
                breaker.note(now, Evidence::Well, "");
            }
            prop_assert_eq!(breaker.state(), "closed");
        }
    }
}
