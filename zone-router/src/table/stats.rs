//! The zone stats: what is known about one zone, and what follows from it: expected times, place in the order, view.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Breaker, CONFIRMED, RECENT, State};
use crate::failing::FailingObjects;
use crate::late_rate::WEIGHT;
use crate::latency::{Fading, GENERATION, Latest, Level, Quantiles, STEP, millis};
use crate::overdue::headers;
use crate::preferred::BETTER_MS;
use crate::rank::{Place, Reason};
use crate::recent_blobs::RecentBlobs;
use crate::snapshot::{Counts, Headers, ZoneView};
use crate::{PerClass, Policy, RoutedZone, Settings, SizeClass, ZoneId};

/// What is known about one zone.
#[derive(Debug, Clone)]
pub(super) struct ZoneStats {
    pub(super) name: Arc<str>,
    pub(super) unusable: Option<Arc<str>>,
    pub(super) policy: Policy,
    pub(super) breaker: Breaker,
    /// The times of reads' headers, by size class.
    pub(super) headers: PerClass<Quantiles>,
    /// The latest of these times, in milliseconds.
    pub(super) lately: PerClass<Latest>,
    /// The times of probes.
    pub(super) probes: Quantiles,
    /// The level of these times, in milliseconds.
    pub(super) probe: Level,
    /// The throughput of one body in bytes per second.
    pub(super) throughput: Fading,
    /// The number of reads in a row whose answers were not awaited. If there are several, a probe checks the zone
    /// sooner.
    pub(super) lost_races: u8,
    pub(super) throttled_until: Option<Instant>,
    pub(super) counts: Counts,
    pub(super) last_error: Option<(Arc<str>, Instant)>,
    pub(super) recent_blobs: RecentBlobs,
    /// Objects that the zone fails to give, by the stage at which it fails.
    pub(super) failing_headers: FailingObjects,
    pub(super) failing_bodies: FailingObjects,
    /// The number of probes in a row without an answer.
    pub(super) silences: u8,
}

/// The expected times of reads of one zone.
pub(super) struct Estimate {
    pub(super) headers: PerClass<Headers>,
    /// The time until all bytes of a blob of typical size have arrived, in milliseconds, weighted as the operator set
    /// it.
    pub(super) times: PerClass<f64>,
}

impl ZoneStats {
    /// The stats at the start: nothing is known about the zone.
    pub(super) fn new(routed: &RoutedZone, now: Instant) -> Self {
        Self {
            name: Arc::clone(&routed.zone.name),
            unusable: routed.zone.unusable.clone(),
            policy: routed.policy,
            breaker: Breaker::new(now),
            headers: Default::default(),
            lately: Default::default(),
            probes: Quantiles::default(),
            probe: Level::default(),
            // Probes do not measure the throughput. If reads left a zone because of slow bodies, it must be tried
            // again.
            throughput: Fading::new(GENERATION * 3 / 2),
            lost_races: 0,
            throttled_until: None,
            counts: Counts::default(),
            last_error: None,
            recent_blobs: RecentBlobs::default(),
            failing_headers: FailingObjects::default(),
            failing_bodies: FailingObjects::default(),
            silences: 0,
        }
    }

    /// These stats for the same store in a later configuration.
    pub(super) fn with_policy(&self, policy: Policy) -> Self {
        Self { policy, ..self.clone() }
    }

    /// Whether the latest probes were not answered.
    pub(super) fn is_silent(&self) -> bool {
        self.silences >= CONFIRMED
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.probe.step().is_some_and(|ms| ms > BETTER_MS) || self.lost_races >= CONFIRMED
    }

    pub(super) fn is_read(&self) -> bool {
        self.unusable.is_none() && self.policy.is_read()
    }

    pub(super) fn is_throttled(&self, now: Instant) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
    }

    pub(super) fn may_be_preferred(&self, now: Instant) -> bool {
        self.is_read() && self.breaker.state() == State::Closed && !self.is_throttled(now)
    }

    /// How long the first byte takes, in milliseconds. Infinite if nothing is known.
    ///
    /// Zones are compared by their probes, because every zone gets the same probes. If reads have become much slower
    /// than they were, the time is multiplied by that factor, whatever the probes show.
    pub(super) fn first_byte(&self, now: Instant) -> f64 {
        let reads = || {
            SizeClass::ALL.into_iter().find_map(|class| self.headers[class].quantile(0.5, now)).map(millis)
        };
        let line = match self.policy.latency_hint {
            Some(hint) => millis(hint),
            None => self.probe.get().or_else(reads).unwrap_or(f64::INFINITY),
        };
        let slowdown = |class: SizeClass| {
            let lately = self.lately[class].median(now, RECENT)?;
            let usual = self.headers[class].quantile(0.5, now)?;
            Some(lately / millis(usual)).filter(|factor| *factor > STEP)
        };
        line * SizeClass::ALL.into_iter().filter_map(slowdown).fold(1.0, f64::max)
    }

    /// `fastest` is the throughput of the fastest zone in bytes per second. It is 0 if none is known.
    pub(super) fn estimate(&self, fastest: f64, settings: &Settings, now: Instant) -> Estimate {
        let headers = PerClass::from_fn(|class| headers(&self.headers[class], &self.probes, settings, now));
        let first_byte = self.first_byte(now);
        let rate = self.throughput.get(now).unwrap_or(fastest);
        let time = |class: SizeClass| {
            let transfer = if rate > 0.0 { class.typical() as f64 / rate * 1000.0 } else { 0.0 };
            // Each failed attempt costs the wait for it. A single failure is ignored, because it may be chance.
            let borne = f64::from(CONFIRMED) * WEIGHT;
            let wasted = (self.breaker.error_rate() - borne).max(0.0) * millis(headers[class].overdue_after);
            (first_byte + transfer + wasted) / self.policy.weight
        };
        Estimate { headers, times: PerClass::from_fn(time) }
    }

    pub(super) fn place(
        &self,
        time: f64,
        id: ZoneId,
        preferred: Option<ZoneId>,
        now: Instant,
    ) -> Option<Place> {
        // Zones with nearly the same time keep their configured order.
        let by_time = (time.max(1.0).log2() * 4.0).min(1000.0) as u64;
        if !self.is_read() {
            // If no other zone has the blob, a drained zone is read. An operator drains a zone to spare it, and reads
            // must not fail because of that.
            let drained = self.unusable.is_none() && self.policy.reads && self.policy.drain;
            return drained.then_some(Place { reason: Reason::Drained, key: by_time });
        }
        let (reason, key) = match self.breaker.state() {
            State::Closed if preferred == Some(id) && id == ZoneId::HOME => (Reason::Home, 0),
            State::Closed if preferred == Some(id) => (Reason::Nearest, 0),
            State::Closed if self.is_throttled(now) => (Reason::Throttled, by_time),
            State::Closed => (Reason::Next, by_time),
            State::HalfOpen { .. } => (Reason::HalfOpen, by_time),
            State::Open { .. } => {
                let ago = self.breaker.last_failure().map(|last| now.saturating_duration_since(last));
                (Reason::Open, u64::MAX - ago.map_or(0, |ago| ago.as_millis() as u64))
            }
        };
        Some(Place { reason, key })
    }

    pub(super) fn reason(&self) -> Option<Arc<str>> {
        let fault = self.breaker.state().fault()?;
        Some(match &self.last_error {
            Some((error, _)) => format!("{}: {error}", fault.as_str()).into(),
            None => fault.as_str().into(),
        })
    }

    pub(super) fn view(
        &self,
        places: PerClass<Option<Place>>,
        headers: PerClass<Headers>,
        now: Instant,
    ) -> ZoneView {
        ZoneView {
            name: Arc::clone(&self.name),
            state: self.breaker.state(),
            since: self.breaker.since(),
            reason: self.reason(),
            suspect: self.breaker.is_suspect(now),
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
            recent_blobs: self.recent_blobs.clone(),
            silent: self.is_silent(),
        }
    }
}
