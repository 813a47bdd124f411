//! Reducers: each records one kind of signal of one zone, and returns what the event says about the zone's health, if
//! anything.

use std::time::Duration;

use backends::{Digest, Kind};
use tokio::time::Instant;

use super::DEEP_PROBE_MAX;
use super::stats::ZoneStats;
use crate::SizeClass;
use crate::breaker::{Event, Fault, State};
use crate::event::{BodyEvent, HeadersEvent, ProbeEvent, Trouble, What};
use crate::latency::{MEASURED, millis};
use crate::size_class::SMALL_MAX;
use crate::snapshot::Counts;

/// How long a zone that asked for fewer requests is read after the others: if it stated no time; at least; at most.
pub(super) const THROTTLED: (Duration, Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(1), Duration::from_secs(30));

impl ZoneStats {
    /// Records an event.
    pub(super) fn take(&mut self, what: What, now: Instant) -> Option<Event> {
        match what {
            What::Headers(event) => self.take_headers(event, now),
            What::Body(event) => self.take_body(event, now),
            What::Probe(event) => self.take_probe(event, now),
            What::Excused => self.count(|counts| &mut counts.excused),
        }
    }

    /// Records an observation at the headers of a read.
    fn take_headers(&mut self, event: HeadersEvent, now: Instant) -> Option<Event> {
        match event {
            HeadersEvent::Answered { digest, class, after, absent } => {
                self.lost_races = 0;
                self.failing_headers.gave(&digest);
                // The answer that an object is absent may take another time than the object itself.
                if !absent {
                    self.note(class, after, now);
                }
                Some(Event::Answered)
            }
            HeadersEvent::LostRace { digest, class, after } => {
                self.lost_races = self.lost_races.saturating_add(1);
                // The answer would have taken longer than this. If this is longer than usual already, it counts as a
                // sample.
                if self.headers[class].quantile(0.5, now).is_none_or(|usual| after > usual) {
                    self.note(class, after, now);
                }
                // If the breaker is half-open, a zone that loses the race is not good enough.
                let tried = matches!(self.breaker.state(), State::HalfOpen { .. });
                (tried && self.headers_count(digest, now)).then_some(Event::Late)
            }
            HeadersEvent::Overdue { digest, class, after } => {
                self.lost_races = self.lost_races.saturating_add(1);
                self.counts.overdue += 1;
                self.last_error = Some((format!("no answer within {after:.0?}").into(), now));
                if !self.headers_count(digest, now) {
                    return None;
                }
                // It is not known how long the answer would have taken, so this is no sample for the quantiles. Many
                // such samples would make the bound longer and longer.
                self.lately[class].add(millis(after), now);
                Some(Event::Late)
            }
            HeadersEvent::Hedged => self.count(|counts| &mut counts.hedged),
            HeadersEvent::HedgeWon => self.count(|counts| &mut counts.hedges_won),
            HeadersEvent::Failed { digest, trouble } => {
                let fault = self.suffer(trouble, now)?;
                (!fault.may_be_an_objects() || self.headers_count(digest, now))
                    .then_some(Event::Failed(fault))
            }
        }
    }

    /// Records an observation at a body.
    fn take_body(&mut self, event: BodyEvent, now: Instant) -> Option<Event> {
        match event {
            BodyEvent::Opened => self.count(|counts| &mut counts.reads),
            BodyEvent::Throughput { bytes, waited } => {
                self.counts.bytes += bytes;
                if bytes >= SMALL_MAX || waited >= MEASURED {
                    self.throughput.add((bytes as f64 / waited.as_secs_f64().max(0.001)).max(1.0), now);
                }
                None
            }
            BodyEvent::Abandoned => self.count(|counts| &mut counts.resumed_elsewhere),
            BodyEvent::Broke { digest, trouble } => {
                let fault = self.suffer(trouble, now)?;
                let counts = self.failing_bodies.failed(digest, now) || self.is_silent();
                (!fault.may_be_an_objects() || counts).then_some(Event::Broke(fault))
            }
            BodyEvent::Proven { blob, size } => {
                self.failing_bodies.gave(&blob.digest);
                if (1..=DEEP_PROBE_MAX).contains(&size) {
                    self.recent_blobs.gave(blob);
                }
                Some(Event::Proven)
            }
            BodyEvent::WrongBytes => {
                self.counts.wrong_bytes += 1;
                let trouble = Trouble { kind: Kind::Corrupt, text: "the digest is another".into() };
                self.suffer(trouble, now).map(Event::Failed)
            }
        }
    }

    /// Records an observation by a probe.
    fn take_probe(&mut self, event: ProbeEvent, now: Instant) -> Option<Event> {
        match event {
            ProbeEvent::Answered { after, late } => {
                self.lost_races = 0;
                self.silences = 0;
                self.counts.probes += 1;
                self.probe.add(millis(after).max(0.001));
                self.probes.add(after, now);
                // The late event was already counted.
                (!late).then_some(Event::Probed)
            }
            ProbeEvent::Overdue => {
                self.silences = self.silences.saturating_add(1);
                Some(Event::ProbeLate)
            }
            // The time for a whole blob is no sample for the time to a first byte.
            ProbeEvent::ProvenWhole => {
                self.silences = 0;
                self.counts.probes += 1;
                Some(Event::ProbedWhole)
            }
            ProbeEvent::Failed { trouble, late } => {
                self.counts.probes += 1;
                let fault = self.suffer(trouble, now);
                // The late event was already counted, and one probe counts only once.
                match fault {
                    Some(Fault::Timeout | Fault::Unavailable) if late => return None,
                    Some(Fault::Timeout | Fault::Unavailable) => {
                        self.silences = self.silences.saturating_add(1);
                    }
                    _ => self.silences = 0,
                }
                fault.map(Event::ProbeFailed)
            }
        }
    }

    /// Whether it counts against the zone that no headers arrived for this object. See [`FailingObjects`].
    fn headers_count(&mut self, digest: Digest, now: Instant) -> bool {
        self.failing_headers.failed(digest, now) || self.is_silent()
    }

    fn count(&mut self, which: impl Fn(&mut Counts) -> &mut u64) -> Option<Event> {
        *which(&mut self.counts) += 1;
        None
    }

    fn note(&mut self, class: SizeClass, after: Duration, now: Instant) {
        self.headers[class].add(after, now);
        self.lately[class].add(millis(after), now);
    }

    fn suffer(&mut self, trouble: Trouble, now: Instant) -> Option<Fault> {
        let fault = match trouble.kind {
            Kind::Unavailable => Fault::Unavailable,
            Kind::Timeout => Fault::Timeout,
            Kind::Corrupt => Fault::WrongBytes,
            Kind::Denied => Fault::Misconfigured,
            Kind::Throttled { retry_after } => {
                let (usual, least, most) = THROTTLED;
                self.throttled_until = Some(now + retry_after.unwrap_or(usual).clamp(least, most));
                self.last_error = Some((trouble.text, now));
                return None;
            }
            Kind::Invalid | Kind::Source | Kind::Exhausted => return None,
        };
        self.counts.failures += 1;
        self.last_error = Some((trouble.text, now));
        Some(fault)
    }
}
