//! Everything that is known of the zones, from what was seen of them: pure, the time is passed in.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Kind};
use tokio::time::Instant;

use crate::failing::FailingObjects;
use crate::health::{Event, Fault, Health, State};
use crate::latency::{Fading, Latest, Level, Quantiles, millis};
use crate::leader::Leader;
use crate::observation::{Observation, Seen, Trouble};
use crate::overdue::headers;
use crate::rank::{Place, Reason};
use crate::recents::Recents;
use crate::snapshot::{Counts, Headers, Snapshot, ZoneView};
use crate::{PerClass, PerZone, Policy, RoutedZone, Settings, SizeClass, ZoneId};

/// Only reads that are younger than this count for a slowdown.
const FRESH: Duration = Duration::from_secs(5);

/// If the headers of the latest reads take more than this many times their usual median, the zone counts as slower by
/// that factor, although probes do not show it yet.
const SLOWDOWN: f64 = 2.0;

/// After this many reads in a row that did not wait for the zone, it is probed sooner.
const OUTRUN: u8 = 2;

/// A share of failures up to this does not make the expected time of a zone longer.
const TROUBLE_BORNE: f64 = 0.2;

/// A body of at least this many bytes is a sample of the zone's throughput.
const TELLING_BYTES: u64 = 256 << 10;

/// A body that was waited for at least this long is a sample too, however few its bytes.
const TELLING_WAIT: Duration = Duration::from_millis(500);

/// If no body gives a sample for this long, the throughput of a zone counts as unknown. Probes do not measure it, so a
/// zone that reads left because of slow bodies must be tried again.
const SPEED_KNOWN: Duration = Duration::from_secs(45);

/// If the time of a probe changes by more than this, ms, the next probe comes sooner.
const STEP_MS: f64 = 5.0;

/// How long a zone that asked for fewer requests is read after the others: if it named no time; at least; at most.
const THROTTLED: (Duration, Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(1), Duration::from_secs(30));

/// Zones that take less than this, ms, count as equally near.
const NEAR_MS: f64 = 16.0;

/// After this many probes in a row without an answer, the store counts as silent. One such probe may have met a damaged
/// object.
const SILENCES: u8 = 2;

/// The largest blob that is read whole to see whether a zone gives right bytes again.
pub(crate) const DEEP_PROBE_MAX: u64 = 4 << 20;

/// What is known of all zones.
#[derive(Debug)]
pub(crate) struct Board {
    zones: PerZone<Record>,
    leaders: PerClass<Leader>,
    settings: Settings,
}

/// A zone went from one state to another, or is out of use for another reason.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) zone: Arc<str>,
    pub(crate) from: State,
    pub(crate) to: State,
    /// How long it had been in the state before.
    pub(crate) after: Duration,
    pub(crate) reason: Option<Arc<str>>,
    /// Whether no zone is in use any more.
    pub(crate) is_last: bool,
}

#[derive(Debug)]
struct Record {
    name: Arc<str>,
    unusable: Option<Arc<str>>,
    policy: Policy,
    health: Health,
    /// Of reads, by size class.
    headers: PerClass<Quantiles>,
    /// The same of the latest, milliseconds.
    lately: PerClass<Latest>,
    /// Of probes.
    probes: Quantiles,
    /// The same, milliseconds.
    probe: Level,
    /// Bytes a second of one body.
    throughput: Fading,
    /// Reads in a row that were not waited for; then a probe looks sooner.
    outrun: u8,
    throttled_until: Option<Instant>,
    counts: Counts,
    last_error: Option<(Arc<str>, Instant)>,
    recents: Recents,
    /// Objects that it fails to give, by the stage at which it does.
    failing_headers: FailingObjects,
    failing_bodies: FailingObjects,
    /// Probes in a row without an answer.
    silences: u8,
}

/// What a read of one zone is expected to take.
struct Estimate {
    headers: PerClass<Headers>,
    /// Until the whole of a blob of typical size is there, ms, as the operator weighs it.
    times: PerClass<f64>,
}

impl Board {
    /// The state at the start: nothing is known of the zones.
    pub(crate) fn new(zones: &[RoutedZone], settings: Settings, now: Instant) -> Self {
        let record = |routed: &RoutedZone| Record {
            name: Arc::clone(&routed.zone.name),
            unusable: routed.zone.unusable.clone(),
            policy: routed.policy,
            health: Health::new(now),
            headers: Default::default(),
            lately: Default::default(),
            probes: Quantiles::default(),
            probe: Level::default(),
            throughput: Fading::new(SPEED_KNOWN),
            outrun: 0,
            throttled_until: None,
            counts: Counts::default(),
            last_error: None,
            recents: Recents::default(),
            failing_headers: FailingObjects::default(),
            failing_bodies: FailingObjects::default(),
            silences: 0,
        };
        let zones = zones.iter().map(record).collect();
        Self { zones, leaders: Default::default(), settings }
    }

    /// Takes over the policies of all zones.
    pub(crate) fn set_policies(&mut self, policies: &PerZone<Policy>) {
        for (zone, policy) in self.zones.iter_mut().zip(policies) {
            zone.policy = *policy;
        }
    }

    /// Whether a probe should look at this zone sooner than usual.
    pub(crate) fn is_doubtful(&self, zone: ZoneId, now: Instant) -> bool {
        self.zones.get(zone).is_some_and(|zone| zone.is_unsettled() || zone.health.is_suspect(now))
    }

    /// Takes in what was seen; the change of state that it makes.
    pub(crate) fn fold(&mut self, observation: Observation, now: Instant, chance: f64) -> Option<Change> {
        let settings = self.settings;
        let zone = self.zones.get_mut(observation.zone)?;
        let (from, since) = (zone.health.state(), zone.health.since());
        let event = zone.take(observation.what, now)?;
        if !zone.health.on(event, &settings, now, chance) {
            return None;
        }
        let to = zone.health.state();
        let is_out = |state| matches!(state, State::Ejected { .. });
        zone.counts.ejections += u64::from(is_out(to) && !is_out(from));
        let after = now.saturating_duration_since(since);
        let (zone, reason) = (Arc::clone(&zone.name), zone.reason());
        let is_last = !self.zones.iter().any(|zone| zone.is_read() && !is_out(zone.health.state()));
        Some(Change { zone, from, to, after, reason, is_last })
    }

    /// All that readers need to know.
    pub(crate) fn snapshot(&mut self, now: Instant, lost_events: u64) -> Snapshot {
        let ejected = |zone: &Record| matches!(zone.health.state(), State::Ejected { .. });
        let mut read = self.zones.iter().filter(|zone| zone.is_read()).peekable();
        let all_ejected = read.peek().is_some() && read.all(ejected);
        let estimates: PerZone<Estimate> = self.estimates(now);
        let mut leaders = PerClass::default();
        for class in SizeClass::ALL {
            let may_lead =
                |(id, zone): (ZoneId, &Record)| zone.may_lead(now).then_some(estimates[id].times[class]);
            let times = self.zones.with_ids().map(may_lead).collect();
            leaders[class] = self.leaders[class].update(&times, now);
        }
        let view = |(id, zone): (ZoneId, &Record)| {
            let Estimate { headers, times } = &estimates[id];
            let place = |class| zone.place(times[class], id, leaders[class], now);
            zone.view(PerClass::from_fn(place), *headers, now)
        };
        let zones = self.zones.with_ids().map(view).collect();
        Snapshot::new(zones, all_ejected, lost_events)
    }

    fn estimates(&self, now: Instant) -> PerZone<Estimate> {
        // A zone without a recent sample counts as fast as the fastest zone, until it has one.
        let fastest = self.zones.iter().filter_map(|zone| zone.throughput.get(now)).fold(0.0, f64::max);
        self.zones.iter().map(|zone| zone.estimate(fastest, &self.settings, now)).collect()
    }
}

impl Record {
    /// Notes what a probe saw; what it says of the zone's health, if anything.
    fn take_probe(&mut self, seen: Seen, now: Instant) -> Option<Event> {
        match seen {
            Seen::Probed { after, late } => {
                self.outrun = 0;
                self.silences = 0;
                self.counts.probes += 1;
                self.probe.add(millis(after).max(0.001));
                self.probes.add(after, now);
                // The late event was already counted.
                (!late).then_some(Event::Probed)
            }
            Seen::ProbeOverdue => {
                self.silences = self.silences.saturating_add(1);
                Some(Event::ProbeLate)
            }
            // The time of a whole blob is no sample of the time to a first byte.
            Seen::ProbedWhole => {
                self.silences = 0;
                self.counts.probes += 1;
                Some(Event::ProbedWhole)
            }
            Seen::ProbeFailed { trouble, late } => {
                self.counts.probes += 1;
                let fault = self.suffer(trouble, now);
                // The late event was already counted, and one probe is one strike.
                match fault {
                    Some(Fault::Timeout | Fault::Unavailable) if late => return None,
                    Some(Fault::Timeout | Fault::Unavailable) => {
                        self.silences = self.silences.saturating_add(1);
                    }
                    _ => self.silences = 0,
                }
                fault.map(Event::ProbeFailed)
            }
            _ => None,
        }
    }

    /// Notes what was seen; what it says of the zone's health, if anything.
    fn take(&mut self, seen: Seen, now: Instant) -> Option<Event> {
        match seen {
            Seen::Answered { digest, class, after, absent } => {
                self.outrun = 0;
                self.failing_headers.gave(&digest);
                // An answer that the object is absent may take another time than one that gives it.
                if !absent {
                    self.note(class, after, now);
                }
                Some(Event::Answered)
            }
            Seen::Outrun { digest, class, after } => {
                self.outrun = self.outrun.saturating_add(1);
                // The answer would have taken longer than this. If this is already longer than usual, it is a sample.
                if self.headers[class].quantile(0.5, now).is_none_or(|usual| after > usual) {
                    self.note(class, after, now);
                }
                // On probation, a zone that loses the race is not good enough.
                let tried = matches!(self.health.state(), State::Probation { .. });
                (tried && self.headers_count(digest, now)).then_some(Event::Late)
            }
            Seen::Overdue { digest, class, after } => {
                self.outrun = self.outrun.saturating_add(1);
                self.counts.overdue += 1;
                self.last_error = Some((format!("no answer within {after:.0?}").into(), now));
                if !self.headers_count(digest, now) {
                    return None;
                }
                // It is not known how long the answer would have taken, so this is no sample of the quantiles: many such
                // samples would make the bound longer and longer.
                self.lately[class].add(millis(after), now);
                Some(Event::Late)
            }
            Seen::Gave { bytes, waited } => {
                self.counts.bytes += bytes;
                if bytes >= TELLING_BYTES || waited >= TELLING_WAIT {
                    self.throughput.add((bytes as f64 / waited.as_secs_f64().max(0.001)).max(1.0), now);
                }
                None
            }
            Seen::Proven { blob, size } => {
                self.failing_bodies.gave(&blob.digest);
                if (1..=DEEP_PROBE_MAX).contains(&size) {
                    self.recents.gave(blob);
                }
                Some(Event::Proven)
            }
            Seen::Probed { .. } | Seen::ProbeOverdue | Seen::ProbedWhole | Seen::ProbeFailed { .. } => {
                self.take_probe(seen, now)
            }
            Seen::Excused => self.count(|counts| &mut counts.excused),
            Seen::Failed { digest, trouble } => {
                let fault = self.suffer(trouble, now)?;
                (!fault.may_be_an_objects() || self.headers_count(digest, now))
                    .then_some(Event::Failed(fault))
            }
            Seen::Broke { digest, trouble } => {
                let fault = self.suffer(trouble, now)?;
                let counts = self.failing_bodies.failed(digest, now) || self.is_silent();
                (!fault.may_be_an_objects() || counts).then_some(Event::Broke(fault))
            }
            Seen::WrongBytes => {
                self.counts.wrong_bytes += 1;
                let trouble = Trouble { kind: Kind::Corrupt, text: "the digest is another".into() };
                self.suffer(trouble, now).map(Event::Failed)
            }
            Seen::Hedged => self.count(|counts| &mut counts.hedged),
            Seen::HedgeWon => self.count(|counts| &mut counts.hedges_won),
            Seen::Opened => self.count(|counts| &mut counts.reads),
            Seen::LeftBehind => self.count(|counts| &mut counts.resumed_elsewhere),
        }
    }

    /// Whether it counts that no headers came for this object; see [`FailingObjects`].
    fn headers_count(&mut self, digest: Digest, now: Instant) -> bool {
        self.failing_headers.failed(digest, now) || self.is_silent()
    }

    fn is_silent(&self) -> bool {
        self.silences >= SILENCES
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

    fn is_unsettled(&self) -> bool {
        self.probe.step().is_some_and(|ms| ms > STEP_MS) || self.outrun >= OUTRUN
    }

    fn is_read(&self) -> bool {
        self.unusable.is_none() && self.policy.is_read()
    }

    fn is_throttled(&self, now: Instant) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
    }

    fn may_lead(&self, now: Instant) -> bool {
        self.is_read() && self.health.state() == State::Healthy && !self.is_throttled(now)
    }

    /// How long the first byte takes, ms; infinite if nothing is known.
    ///
    /// Zones are compared by their probes, because every zone gets the same probes. If reads have become much slower
    /// than they were, the time is multiplied by that factor, whatever the probes say.
    fn first_byte(&self, now: Instant) -> f64 {
        let reads = || {
            SizeClass::ALL.into_iter().find_map(|class| self.headers[class].quantile(0.5, now)).map(millis)
        };
        let line = match self.policy.latency_hint {
            Some(hint) => millis(hint),
            None => self.probe.get().or_else(reads).unwrap_or(f64::INFINITY),
        };
        let slowdown = |class: SizeClass| {
            let lately = self.lately[class].median(now, FRESH)?;
            let usual = self.headers[class].quantile(0.5, now)?;
            Some(lately / millis(usual)).filter(|factor| *factor > SLOWDOWN)
        };
        line * SizeClass::ALL.into_iter().filter_map(slowdown).fold(1.0, f64::max)
    }

    /// `fastest` is the throughput of the fastest zone, bytes a second; 0 where none is known.
    fn estimate(&self, fastest: f64, settings: &Settings, now: Instant) -> Estimate {
        let headers = PerClass::from_fn(|class| headers(&self.headers[class], &self.probes, settings, now));
        let first_byte = self.first_byte(now);
        let rate = self.throughput.get(now).unwrap_or(fastest);
        let time = |class: SizeClass| {
            let transfer = if rate > 0.0 { class.typical() as f64 / rate * 1000.0 } else { 0.0 };
            // Each failed attempt costs the wait for it.
            let wasted =
                (self.health.trouble() - TROUBLE_BORNE).max(0.0) * millis(headers[class].overdue_after);
            (first_byte + transfer + wasted) / self.policy.weight
        };
        Estimate { headers, times: PerClass::from_fn(time) }
    }

    fn place(&self, time: f64, id: ZoneId, leader: Option<ZoneId>, now: Instant) -> Option<Place> {
        // Zones of nearly the same time keep their configured order.
        let by_time = (time.max(NEAR_MS).log2() * 4.0).min(1000.0) as u64;
        if !self.is_read() {
            // If no other zone has the blob, a drained zone is read: an operator drains it to spare it, not to fail reads.
            let drained = self.unusable.is_none() && self.policy.reads && self.policy.drain;
            return drained.then_some(Place { reason: Reason::Drained, key: by_time });
        }
        let (reason, key) = match self.health.state() {
            State::Healthy if leader == Some(id) && id == ZoneId::HOME => (Reason::Home, 0),
            State::Healthy if leader == Some(id) => (Reason::Nearest, 0),
            State::Healthy if self.is_throttled(now) => (Reason::Throttled, by_time),
            State::Healthy => (Reason::Next, by_time),
            State::Probation { .. } => (Reason::Probation, by_time),
            State::Ejected { .. } => {
                let ago = self.health.last_failure().map(|last| now.saturating_duration_since(last));
                (Reason::Ejected, u64::MAX - ago.map_or(0, |ago| ago.as_millis() as u64))
            }
        };
        Some(Place { reason, key })
    }

    fn reason(&self) -> Option<Arc<str>> {
        let fault = self.health.state().fault()?;
        Some(match &self.last_error {
            Some((error, _)) => format!("{}: {error}", fault.as_str()).into(),
            None => fault.as_str().into(),
        })
    }

    fn view(&self, places: PerClass<Option<Place>>, headers: PerClass<Headers>, now: Instant) -> ZoneView {
        ZoneView {
            name: Arc::clone(&self.name),
            state: self.health.state(),
            since: self.health.since(),
            reason: self.reason(),
            suspect: self.health.is_suspect(now),
            throttled_until: self.throttled_until,
            policy: self.policy,
            unusable: self.unusable.clone(),
            places,
            headers,
            unsettled: self.is_unsettled(),
            probe: self.probe.get().map(|ms| Duration::from_secs_f64(ms / 1000.0)),
            throughput: self.throughput.get(now).map(|rate| rate as u64),
            counts: self.counts,
            last_error: self.last_error.clone(),
            recents: self.recents.clone(),
            silent: self.is_silent(),
        }
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
