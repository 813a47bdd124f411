//! The breaker of a zone: an explicit state machine. Pure; time and chance are passed in.
//!
//! ```text
//!            3 failures in a row, of headers, bodies or probes; every other one; wrong bytes; probes denied
//!   Closed ──────────────────────────────────────────────────────────────────────▶ Open
//!      ▲                                                                          │  ▲
//!      │ one read proven right, or probes for 2 s             a probe after `until` │  │ any failure
//!      └────────────────────────────── HalfOpen ◀─────────────────────────────────┘  │
//!                                          └──────────────────────────────────────────┘
//! ```
//!
//! After wrong bytes, the breaker closes only after the zone gave a whole blob whose digest was right, to a read or to a
//! probe. Until then, wrong bytes stay the fault, whatever other failures happen.
//!
//! An absent object and a client that leaves are no events: they are no fault of a zone.

use std::time::Duration;

use tokio::time::Instant;

use crate::Settings;
use crate::late_rate::{LateRate, WEIGHT};

/// An event this many times in a row is not chance. This many failures open the breaker. If this many objects fail, no
/// single damaged object is the cause. This many samples are a step.
pub(crate) const STRIKES: u8 = 3;

/// A single event may have a harmless cause. A denied probe may come from credentials that are being replaced, and an
/// unanswered one from a damaged object. A lost race, or the failure of a single read, may be chance. This many events
/// say something about the zone.
pub(crate) const CONFIRMED: u8 = 2;

/// The weight of a probe in the error rate, answered or not. Probes must not outweigh reads, but a zone that is not
/// read is known only from them.
const PROBE_WEIGHT: f64 = 0.02;

/// Events younger than this are recent. A zone is suspect at most for this long after its last failure.
pub(crate) const RECENT: Duration = Duration::from_secs(5);

/// If a breaker was closed for this long, its next pause is the shortest one again. If no failure follows for this
/// long, a failure is forgotten.
pub(crate) const CALM: Duration = Duration::from_secs(60);

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The zone cannot be reached, breaks off, or answers with server errors.
    Unavailable,
    /// The zone does not answer in time.
    Timeout,
    /// The zone gave bytes that do not match the digest.
    WrongBytes,
    /// The zone denies access to the gateway: its credentials, policy, bucket or clock are wrong. An operator has to
    /// correct that.
    Misconfigured,
}

impl Fault {
    /// Whether a single damaged object of the zone can be the cause.
    pub(crate) fn may_be_an_objects(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }

    /// The fault in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "does not answer in time",
            Self::WrongBytes => "gave wrong bytes",
            Self::Misconfigured => "misconfigured: it denies us",
        }
    }
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The zone is in use. It is shown as `healthy`.
    Closed,
    /// The zone is read only after all others. It is shown as `ejected` or `misconfigured`.
    Open {
        /// Why the breaker opened.
        fault: Fault,
        /// The time from which a probe may make the breaker half-open.
        until: Instant,
    },
    /// One read at a time tries the zone. It is shown as `probation`.
    HalfOpen {
        /// Why the breaker had opened.
        fault: Fault,
    },
}

impl State {
    /// The name of the state, for tables and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "healthy",
            Self::Open { fault: Fault::Misconfigured, .. } => "misconfigured",
            Self::Open { .. } => "ejected",
            Self::HalfOpen { .. } => "probation",
        }
    }

    /// Why the breaker opened. `None` if it is closed.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Closed => None,
            Self::Open { fault, .. } | Self::HalfOpen { fault } => Some(*fault),
        }
    }
}

/// An event at a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The zone answered a read.
    Answered,
    /// The zone answered a probe.
    Probed,
    /// The zone gave a whole blob to a probe, and its digest was right.
    ProbedWhole,
    /// A blob from the zone was proven right.
    Proven,
    /// The zone failed before the headers of a read.
    Failed(Fault),
    /// The zone failed in the middle of a body.
    Broke(Fault),
    /// The zone failed a probe.
    ProbeFailed(Fault),
    /// A read was given up because it took too long.
    Late,
    /// A probe takes too long.
    ProbeLate,
}

/// The stages at which failures in a row are counted. A success at one stage says little about another: a zone may
/// answer probes while reads hang, and send headers while bodies stall.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Headers,
    Body,
    Probe,
}

/// Whether most outcomes are failures. If more than half of about the latest twelve are, the breaker opens, even if
/// successes come in between.
fn is_most(share: f64) -> bool {
    share > 0.5
}

/// The breaker of one zone.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    since: Instant,
    /// The failures in a row at each [`Stage`].
    strikes: [u8; 3],
    /// Whether only probes closed the breaker, and no read has succeeded since. The first read that fails then opens
    /// it.
    doubted: bool,
    denials: u8,
    error_rate: f64,
    /// The share of reads that are given up because they take too long.
    late_rate: LateRate,
    last_failure: Option<Instant>,
    /// How often the breaker opened soon after it had closed.
    round: u32,
}

impl Breaker {
    /// The breaker of a zone about which nothing is known. It is closed.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            since: now,
            strikes: [0; 3],
            doubted: false,
            denials: 0,
            error_rate: 0.0,
            late_rate: LateRate::default(),
            last_failure: None,
            round: 0,
        }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The time since which the breaker has been in this state.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The time of the last failure.
    #[must_use]
    pub fn last_failure(&self) -> Option<Instant> {
        self.last_failure
    }

    /// The share of failures among the latest outcomes, from 0 to 1.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        self.error_rate.max(self.late_rate.share())
    }

    /// Whether the zone failed recently although the breaker is closed. It is then probed sooner.
    #[must_use]
    pub fn is_suspect(&self, now: Instant) -> bool {
        let lately = self.last_failure.is_some_and(|last| now.saturating_duration_since(last) < RECENT);
        let struck = self.strikes != [0; 3] || self.late_rate.strikes() > 0 || self.denials > 0;
        self.state == State::Closed && lately && struck
    }

    /// Records an event. Returns whether the state or its fault changed. `chance` is from `0.0..1.0` and spreads the
    /// ends of pauses.
    pub fn on(&mut self, event: Event, settings: &Settings, now: Instant, chance: f64) -> bool {
        if let Event::Failed(_) | Event::Broke(_) | Event::ProbeFailed(_) | Event::Late | Event::ProbeLate =
            event
        {
            if self.last_failure.is_some_and(|last| now.saturating_duration_since(last) > CALM) {
                self.strikes = [0; 3];
                self.late_rate = LateRate::default();
            }
            self.last_failure = Some(now);
        }
        let kind = |state: &State| (std::mem::discriminant(state), state.fault());
        let before = kind(&self.state);
        match self.state {
            State::Closed => self.when_closed(event, settings, now, chance),
            State::Open { fault, until } => self.when_open(event, fault, until, settings, now, chance),
            State::HalfOpen { fault } => self.when_half_open(event, fault, settings, now, chance),
        }
        before != kind(&self.state)
    }

    fn when_closed(&mut self, event: Event, settings: &Settings, now: Instant, chance: f64) {
        match event {
            Event::Answered => {
                self.late_rate.note(false, now);
                self.succeed(Stage::Headers, WEIGHT);
            }
            Event::Proven => {
                self.doubted = false;
                self.succeed(Stage::Body, WEIGHT);
            }
            Event::Probed | Event::ProbedWhole => {
                self.denials = 0;
                self.succeed(Stage::Probe, PROBE_WEIGHT);
            }
            Event::Failed(Fault::WrongBytes)
            | Event::Broke(Fault::WrongBytes)
            | Event::ProbeFailed(Fault::WrongBytes) => {
                self.open(Fault::WrongBytes, settings, now, chance);
            }
            // S3 without `s3:ListBucket` denies the read of an absent object. Therefore a probe decides.
            Event::Failed(Fault::Misconfigured) | Event::Broke(Fault::Misconfigured) => {
                self.denials = self.denials.max(1);
            }
            Event::ProbeFailed(Fault::Misconfigured) => {
                self.denials = self.denials.saturating_add(1);
                if self.denials >= CONFIRMED {
                    self.open(Fault::Misconfigured, settings, now, chance);
                }
            }
            Event::Failed(fault) => self.strike(Stage::Headers, fault, settings, now, chance),
            Event::Broke(fault) => self.strike(Stage::Body, fault, settings, now, chance),
            Event::ProbeFailed(fault) => self.strike(Stage::Probe, fault, settings, now, chance),
            Event::ProbeLate => self.strike(Stage::Probe, Fault::Timeout, settings, now, chance),
            Event::Late => {
                self.late_rate.note(true, now);
                if self.late_rate.strikes() >= STRIKES || is_most(self.late_rate.share()) || self.doubted {
                    self.open(Fault::Timeout, settings, now, chance);
                }
            }
        }
    }

    fn succeed(&mut self, stage: Stage, weight: f64) {
        self.strikes[stage as usize] = 0;
        self.error_rate *= 1.0 - weight;
    }

    fn strike(&mut self, stage: Stage, fault: Fault, settings: &Settings, now: Instant, chance: f64) {
        let strikes = &mut self.strikes[stage as usize];
        *strikes = strikes.saturating_add(1);
        let probe = matches!(stage, Stage::Probe);
        let enough = *strikes >= STRIKES || (self.doubted && !probe);
        self.error_rate += (1.0 - self.error_rate) * if probe { PROBE_WEIGHT } else { WEIGHT };
        if enough || is_most(self.error_rate) {
            self.open(fault, settings, now, chance);
        }
    }

    fn when_open(
        &mut self,
        event: Event,
        fault: Fault,
        until: Instant,
        settings: &Settings,
        now: Instant,
        chance: f64,
    ) {
        match event {
            // This is recorded before the end of the pause, too, because the fault is new and worse.
            Event::Failed(Fault::WrongBytes)
            | Event::Broke(Fault::WrongBytes)
            | Event::ProbeFailed(Fault::WrongBytes)
                if fault != Fault::WrongBytes =>
            {
                self.open(Fault::WrongBytes, settings, now, chance);
            }
            Event::Probed | Event::ProbedWhole if now >= until => self.enter(State::HalfOpen { fault }, now),
            Event::ProbeFailed(newer) if now >= until => self.open(newer, settings, now, chance),
            // The zone answers, but slowly. No client must try it.
            Event::ProbeLate if now >= until => self.open(Fault::Timeout, settings, now, chance),
            // These events belong to requests that were in flight when the breaker opened.
            _ => {}
        }
    }

    fn when_half_open(&mut self, event: Event, fault: Fault, settings: &Settings, now: Instant, chance: f64) {
        match event {
            Event::Proven => self.close(false, now),
            // After wrong bytes, a probe of one byte proves nothing.
            Event::Probed if fault == Fault::WrongBytes => {}
            Event::Probed | Event::ProbedWhole => {
                // Before that, a read that tries the zone may still be waiting.
                if now.saturating_duration_since(self.since) >= 2 * settings.overdue_max {
                    self.close(true, now);
                }
            }
            Event::Answered => {}
            // As in the closed state, only a probe decides about denials.
            Event::Failed(Fault::Misconfigured) | Event::Broke(Fault::Misconfigured) => {}
            Event::Failed(fault) | Event::Broke(fault) | Event::ProbeFailed(fault) => {
                self.open(fault, settings, now, chance);
            }
            Event::Late | Event::ProbeLate => self.open(Fault::Timeout, settings, now, chance),
        }
    }

    fn close(&mut self, doubted: bool, now: Instant) {
        self.doubted = doubted;
        self.denials = 0;
        self.error_rate = 0.0;
        self.enter(State::Closed, now);
    }

    fn open(&mut self, fault: Fault, settings: &Settings, now: Instant, chance: f64) {
        if self.state == State::Closed && now.saturating_duration_since(self.since) > CALM {
            self.round = 0;
        }
        let ceiling = settings.pause.ceiling(self.round);
        // The pause is a random part between half and all of it, so that many gateways do not return at the same
        // moment.
        let mut pause = ceiling.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        if fault == Fault::WrongBytes {
            pause = pause.max(settings.wrong_bytes);
        }
        self.round = self.round.saturating_add(1);
        let lied = self.state.fault() == Some(Fault::WrongBytes);
        let fault = if lied { Fault::WrongBytes } else { fault };
        self.enter(State::Open { fault, until: now + pause }, now);
    }

    fn enter(&mut self, state: State, now: Instant) {
        // The time since the breaker opened counts, even if the pause was prolonged.
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) {
            self.since = now;
        }
        self.state = state;
        self.strikes = [0; 3];
        self.late_rate = LateRate::default();
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
