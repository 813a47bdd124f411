//! Decides whether requests are sent to an instance. Pure; the time is passed in.
//!
//! ```text
//!            no connection; 500 for 3 paths in a row; a probe that it answers
//!            with an error; 2 probes in a row without an answer
//!   closed ──────────────────────────────────────────────────────────────────▶ open ◀─┐
//!     ▲                                                                          │     │ any failure
//!     └─────────── good probes in a row ─────────── half-open ◀── a good probe ──┘     │
//!                                                       └───────────────────────────────┘
//! ```
//!
//! If a request fails in any way except that no connection could be made, this is a doubt. So are 3 answers 500 in a
//! row for fewer than 3 paths, because every instance answers 500 for a manifest that Quay cannot read. In doubt, the
//! instance is probed, and is not chosen until that probe is done. If the instance itself then says that it serves,
//! further doubts are ignored for some time, so that one client's requests cannot keep a working instance out
//! of use. A proxy may answer probes although nothing is behind it. So if the latest good probe was possibly
//! answered by a proxy, a doubt opens the breaker.
//!
//! Only probes close the breaker: no client's request is used to find out whether an instance works again.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Circuit;

/// How long doubts are ignored after a probe refuted one.
const DOUBT_PAUSE: Duration = Duration::from_secs(30);

/// The number of answers 500 in a row after which a probe is needed. If each of them is about another path, they open
/// the breaker.
const ERRORS: u8 = 3;

/// The number of probes in a row without an answer that open the breaker. A single one may be due to a pause
/// of the machine.
const SILENCES: u8 = 2;

/// The number of good probes in a row that close the breaker, if it was closed for long before.
const GOOD: u32 = 2;

/// The upper limit of that number. It doubles each time the breaker opens soon after it closed.
const GOOD_MAX: u32 = 16;

/// After this time without a failure, earlier failures no longer count. If the breaker was closed for this long before
/// it opens, [`GOOD`] probes close it again.
const CALM: Duration = Duration::from_secs(60);

/// An observation of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The instance answered a request, and not with a server error.
    Answered,
    /// The instance answered 500 to a request that reads, or that begins an upload. With a hash of its path.
    Error(u64),
    /// There was no connection.
    Gone,
    /// The instance answered a request with 502, 503 or 504, or not at all. The request itself may be the cause.
    Doubt,
    /// A probe was answered by the instance itself, which serves.
    Well,
    /// A probe was answered without an error, but possibly by a proxy in front of the instance.
    Reached,
    /// A probe was answered, and the answer says that the instance does not serve.
    Unwell,
    /// A probe was answered, and the answer says that a part of the instance fails, without which it still answers pulls.
    Impaired,
    /// A probe got no answer or no connection.
    Silent,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The breaker opened: no requests are sent from now on.
    Opened,
    /// The breaker closed: requests are sent again, after this time.
    Closed(Duration),
}

/// The breaker of one instance.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Open>,
    /// The time of a doubt that no probe has answered yet.
    doubted: Option<Instant>,
    /// The time of the latest good probe, and of the latest one that refuted a doubt.
    well: Option<Instant>,
    refuted: Option<Instant>,
    /// Whether the latest good probe was possibly answered by a proxy.
    by_proxy: bool,
    errors: Errors,
    silences: u8,
    /// The number of good probes that close the breaker after its latest opening.
    needed: u32,
    closed_at: Option<Instant>,
}

/// The answers 500 in a row, since the last good answer and the last opening of the breaker.
#[derive(Debug, Default)]
struct Errors {
    /// Their number since they last caused a doubt.
    count: u8,
    /// The hashes of their paths. Each path is kept once.
    paths: Vec<u64>,
    /// The time of the latest.
    latest: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    last: Instant,
    why: String,
    /// Whether the last probe got no answer.
    silent: bool,
    /// Whether the instance says that it still answers pulls.
    answers: bool,
    good: u32,
}

impl Breaker {
    /// Takes an observation into account. `why` describes a failure for operators.
    pub(super) fn note(&mut self, now: Instant, evidence: Evidence, why: &str) -> Option<Change> {
        let enough = match evidence {
            Evidence::Answered => {
                self.errors = Errors::default();
                return None;
            }
            Evidence::Error(path) => match self.errors.add(now, path) {
                Sum::Little => return None,
                Sum::Doubt => return self.note(now, Evidence::Doubt, why),
                Sum::Enough => true,
            },
            Evidence::Doubt if self.by_proxy => true,
            Evidence::Doubt => {
                let paused = self.refuted.is_some_and(|refuted| now - refuted < DOUBT_PAUSE);
                if self.open.is_none() && !paused {
                    self.doubted = self.doubted.or(self.well).or(Some(now));
                }
                return None;
            }
            Evidence::Well => {
                self.refuted = self.doubted.take().map(|_| now).or(self.refuted);
                (self.silences, self.well, self.by_proxy) = (0, Some(now), false);
                return self.good_probe(now);
            }
            Evidence::Reached => {
                (self.silences, self.well, self.by_proxy, self.refuted) = (0, Some(now), true, None);
                if self.doubted.is_none() {
                    return self.good_probe(now);
                }
                // No evidence refutes the doubt.
                true
            }
            Evidence::Silent => counted(&mut self.silences, SILENCES),
            Evidence::Gone | Evidence::Unwell | Evidence::Impaired => true,
        };
        if matches!(evidence, Evidence::Unwell | Evidence::Impaired) {
            self.silences = 0;
        }
        if let Some(open) = &mut self.open {
            (open.last, open.good) = (now, 0);
            open.silent = match evidence {
                Evidence::Silent => true,
                Evidence::Unwell | Evidence::Impaired => false,
                _ => open.silent,
            };
            // A single request or probe without an answer does not contradict the instance's own words.
            open.answers = evidence == Evidence::Impaired || (open.answers && !enough);
            why.clone_into(&mut open.why);
            return None;
        }
        enough.then(|| self.opened(now, evidence, why))
    }

    fn opened(&mut self, now: Instant, evidence: Evidence, why: &str) -> Change {
        // The opening confirms the doubt.
        self.doubted = None;
        let again = self.closed_at.is_some_and(|at| now - at < CALM);
        self.needed = if again { (self.needed * 2).min(GOOD_MAX) } else { GOOD };
        self.open = Some(Open {
            since: now,
            last: now,
            why: why.to_owned(),
            silent: evidence == Evidence::Silent,
            answers: evidence == Evidence::Impaired,
            good: 0,
        });
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
        self.errors = Errors::default();
        self.closed_at = Some(now);
        Some(Change::Closed(now - since))
    }

    /// Whether the instance may be chosen.
    pub(super) fn circuit(&self) -> Circuit {
        let failed = self.open.as_ref().map(|open| open.last).or(self.doubted);
        failed.map_or(Circuit::Closed, Circuit::Open)
    }

    /// Whether the breaker is open and probes are not answered.
    pub(super) fn is_silent(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.silent)
    }

    /// Whether the instance answers no pull: the breaker is open, and the instance does not say that it still answers.
    pub(super) fn is_away(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.answers)
    }

    /// Whether there was a recent failure, so that the instance is probed sooner.
    pub(super) fn is_doubtful(&self) -> bool {
        self.open.is_some() || self.doubted.is_some() || self.silences > 0 || self.errors.count > 0
    }

    /// The state's name, for tables and metrics.
    pub(super) fn state(&self) -> &'static str {
        match &self.open {
            None => "closed",
            Some(open) if open.good > 0 => "half-open",
            Some(_) => "open",
        }
    }

    /// The last failure, while it is not closed.
    pub(super) fn why(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.why.as_str())
    }
}

/// The effect of answers 500 in a row.
enum Sum {
    Little,
    Doubt,
    Enough,
}

impl Errors {
    /// Adds an answer, and returns the effect of all of them. After a doubt, the count begins anew. After enough paths,
    /// the paths begin anew. After a calm time, both begin anew: an instance that is rarely used gives few good answers
    /// between the errors of different days.
    fn add(&mut self, now: Instant, path: u64) -> Sum {
        if self.latest.replace(now).is_some_and(|latest| now - latest >= CALM) {
            *self = Self { latest: Some(now), ..Self::default() };
        }
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
        if self.paths.len() >= usize::from(ERRORS) {
            *self = Self::default();
            return Sum::Enough;
        }
        if !counted(&mut self.count, ERRORS) {
            return Sum::Little;
        }
        self.count = 0;
        Sum::Doubt
    }
}

/// Increments the count and returns whether it has reached `enough`.
fn counted(count: &mut u8, enough: u8) -> bool {
    *count = count.saturating_add(1);
    *count >= enough
}

#[cfg(test)]
mod tests;
