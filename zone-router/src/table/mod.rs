//! The zone table: what is known about the zones, computed from events. Pure: the time is passed in.

mod reduce;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::State;
use crate::event::ZoneEvent;
use crate::preferred::Preferred;
use crate::snapshot::Snapshot;
use crate::{PerClass, PerZone, Policy, RoutedZone, Settings, SizeClass, ZoneId};
use stats::{Estimate, ZoneStats};

/// The largest blob that a probe reads whole to check whether a zone gives right bytes again.
pub(crate) const DEEP_PROBE_MAX: u64 = 4 << 20;

/// What is known of all zones.
#[derive(Debug)]
pub(crate) struct ZoneTable {
    zones: PerZone<ZoneStats>,
    preferred: PerClass<Preferred>,
    settings: Settings,
}

/// The breaker of a zone changed its state, or is open for another reason.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) zone: Arc<str>,
    pub(crate) from: State,
    pub(crate) to: State,
    /// How long the breaker had been in the state before.
    pub(crate) after: Duration,
    pub(crate) reason: Option<Arc<str>>,
    /// Whether the breakers of all zones that are read are now open.
    pub(crate) is_last: bool,
}

impl ZoneTable {
    /// The table at the start: nothing is known about the zones.
    pub(crate) fn new(zones: &[RoutedZone], settings: Settings, now: Instant) -> Self {
        let record = |routed: &RoutedZone| ZoneStats::new(routed, now);
        let zones = zones.iter().map(record).collect();
        Self { zones, preferred: Default::default(), settings }
    }

    /// The table for a later configuration. `kept` has the present id of each zone whose store is the same: what is
    /// known about it stays.
    pub(crate) fn successor(
        &self,
        zones: &[RoutedZone],
        kept: &PerZone<Option<ZoneId>>,
        settings: Settings,
        now: Instant,
    ) -> Self {
        let record = |(routed, before): (&RoutedZone, &Option<ZoneId>)| {
            let before = before.and_then(|before| self.zones.get(before));
            before.map_or_else(|| ZoneStats::new(routed, now), |before| before.with_policy(routed.policy))
        };
        let preferred = PerClass::from_fn(|class| {
            self.preferred[class].renamed(|before| kept.find_id(|kept| *kept == Some(before)))
        });
        Self { zones: zones.iter().zip(kept).map(record).collect(), preferred, settings }
    }

    /// Replaces the policies of all zones.
    pub(crate) fn set_policies(&mut self, policies: &PerZone<Policy>) {
        for (zone, policy) in self.zones.iter_mut().zip(policies) {
            zone.policy = *policy;
        }
    }

    /// Whether a probe should check this zone sooner than usual.
    pub(crate) fn is_doubtful(&self, zone: ZoneId, now: Instant) -> bool {
        self.zones.get(zone).is_some_and(|zone| zone.is_unsettled() || zone.breaker.is_suspect(now))
    }

    /// Records an event. Returns the change of state that it causes, if any.
    pub(crate) fn fold(&mut self, event: ZoneEvent, now: Instant, chance: f64) -> Option<Change> {
        let settings = self.settings;
        let zone = self.zones.get_mut(event.zone)?;
        let (from, since) = (zone.breaker.state(), zone.breaker.since());
        let signal = zone.take(event.what, now)?;
        if !zone.breaker.on(signal, &settings, now, chance) {
            return None;
        }
        let to = zone.breaker.state();
        let is_open = |state| matches!(state, State::Open { .. });
        zone.counts.opened += u64::from(is_open(to) && !is_open(from));
        let after = now.saturating_duration_since(since);
        let (zone, reason) = (Arc::clone(&zone.name), zone.reason());
        let is_last = !self.zones.iter().any(|zone| zone.is_read() && !is_open(zone.breaker.state()));
        Some(Change { zone, from, to, after, reason, is_last })
    }

    /// Everything that readers need to know.
    pub(crate) fn snapshot(&mut self, now: Instant, lost_events: u64) -> Snapshot {
        let open = |zone: &ZoneStats| matches!(zone.breaker.state(), State::Open { .. });
        let mut read = self.zones.iter().filter(|zone| zone.is_read()).peekable();
        let all_open = read.peek().is_some() && read.all(open);
        let estimates: PerZone<Estimate> = self.estimates(now);
        let mut preferred = PerClass::default();
        for class in SizeClass::ALL {
            let may_be_preferred = |(id, zone): (ZoneId, &ZoneStats)| {
                zone.may_be_preferred(now).then_some(estimates[id].times[class])
            };
            let times = self.zones.with_ids().map(may_be_preferred).collect();
            preferred[class] = self.preferred[class].update(&times, now);
        }
        let view = |(id, zone): (ZoneId, &ZoneStats)| {
            let Estimate { headers, times } = &estimates[id];
            let place = |class| zone.place(times[class], id, preferred[class], now);
            zone.view(PerClass::from_fn(place), *headers, now)
        };
        let zones = self.zones.with_ids().map(view).collect();
        Snapshot::new(zones, all_open, lost_events)
    }

    fn estimates(&self, now: Instant) -> PerZone<Estimate> {
        // Until a zone has a recent sample, it counts as fast as the fastest zone.
        let fastest = self.zones.iter().filter_map(|zone| zone.throughput.get(now)).fold(0.0, f64::max);
        self.zones.iter().map(|zone| zone.estimate(fastest, &self.settings, now)).collect()
    }
}

#[cfg(test)]
mod tests;
