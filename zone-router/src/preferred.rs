//! Decides which zone is preferred, without flapping. Pure: the time is passed in.

use std::time::Duration;

use backends::Backoff;
use tokio::time::Instant;

use crate::{PerZone, ZoneId};

/// A zone may replace the home zone if it takes less than this share of home's time, and is faster by more than
/// [`BETTER_MS`].
const BETTER: f64 = 0.7;

/// The least difference in milliseconds that matters: clients do not notice less. Home is preferred again when it is
/// slower by less than this. If the time of a probe differs by more than this, the next probe follows soon.
pub(crate) const BETTER_MS: f64 = 5.0;

/// A zone becomes preferred when the time for which it was better exceeds the time for which it was not by `base`. Each
/// change soon after another doubles that excess, up to `max`.
const HOLD: Backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(160) };

/// A change is soon after another if at most this time lies between them.
const SOON: Duration = Duration::from_secs(600);

/// Preferred zones, means and quantiles are updated this often. A longer pause counts as one tick, because nothing was
/// measured meanwhile.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// If another zone takes less than this share of the preferred zone's time for two ticks without a break, it becomes
/// preferred, because the preferred zone has a fault.
const FAR_BETTER: f64 = 1.0 / 3.0;

/// The zone that is preferred for one size class.
#[derive(Debug, Clone)]
pub struct Preferred {
    zone: ZoneId,
    /// The recent time for which another zone was better, minus the time for which none was.
    worse: Duration,
    /// The time since which another zone has been far better, without a break.
    far_worse: Option<Instant>,
    updated: Option<Instant>,
    /// The number of changes for the better, each soon after the one before, and the time of the last one.
    changes: Option<(u32, Instant)>,
}

impl Default for Preferred {
    /// The home zone is preferred.
    fn default() -> Self {
        Self { zone: ZoneId::HOME, worse: Duration::ZERO, far_worse: None, updated: None, changes: None }
    }
}

impl Preferred {
    /// Returns the zone that is preferred from now on. `None` if no zone may be preferred.
    ///
    /// `times` has an item for each zone, home first: the milliseconds that a read is expected to take. The item is
    /// infinite if that is not known yet, and `None` if the zone may not be preferred.
    pub fn update(&mut self, times: &PerZone<Option<f64>>, now: Instant) -> Option<ZoneId> {
        let since = self.updated.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let since = since.min(TICK);
        let Some(own) = times.get(self.zone).copied().flatten() else {
            // A zone that may not be preferred is replaced at once.
            return best(times).map(|zone| self.prefer(zone));
        };
        let Some(challenger) = challenger(times, self.zone) else {
            self.worse = self.worse.saturating_sub(since);
            self.far_worse = None;
            return Some(self.zone);
        };
        self.worse = (self.worse + since).min(self.hold(now));
        let time = times[challenger].unwrap_or(f64::INFINITY);
        let far = time < own * FAR_BETTER;
        self.far_worse = if far { self.far_worse.or(Some(now)) } else { None };
        let far_worse = self.far_worse.is_some_and(|far| now.saturating_duration_since(far) >= 2 * TICK);
        if far_worse || self.worse >= self.hold(now) {
            let before = self.changes.filter(|(_, at)| now.saturating_duration_since(*at) < SOON);
            self.changes = Some((before.map_or(1, |(changes, _)| changes.saturating_add(1)), now));
            return Some(self.prefer(challenger));
        }
        Some(self.zone)
    }

    /// The same preference where zones have other ids. If the zone is gone, the home zone is preferred.
    pub(crate) fn renamed(&self, id: impl Fn(ZoneId) -> Option<ZoneId>) -> Self {
        id(self.zone).map_or_else(Self::default, |zone| Self { zone, ..self.clone() })
    }

    fn prefer(&mut self, zone: ZoneId) -> ZoneId {
        self.zone = zone;
        self.worse = Duration::ZERO;
        self.far_worse = None;
        zone
    }

    fn hold(&self, now: Instant) -> Duration {
        let before = self.changes.filter(|(_, at)| now.saturating_duration_since(*at) < SOON);
        HOLD.ceiling(before.map_or(0, |(changes, _)| changes))
    }
}

/// The zone that should be preferred instead of `preferred`, if it stays the better one.
fn challenger(times: &PerZone<Option<f64>>, preferred: ZoneId) -> Option<ZoneId> {
    let own = times[preferred].filter(|own| own.is_finite())?;
    if preferred != ZoneId::HOME
        && let Some(home) = times[ZoneId::HOME]
        && home < own + BETTER_MS
    {
        return Some(ZoneId::HOME);
    }
    let (zone, time) = quickest(times)?;
    (zone != preferred && time < own * BETTER - BETTER_MS).then_some(zone)
}

/// The zone to prefer if none was preferred: the first zone that no other zone beats by the margin.
fn best(times: &PerZone<Option<f64>>) -> Option<ZoneId> {
    let (quickest, least) = quickest(times)?;
    let good = |time: &Option<f64>| time.is_some_and(|time| least >= time * BETTER - BETTER_MS);
    Some(times.find_id(good).unwrap_or(quickest))
}

/// The first of the fastest zones.
fn quickest(times: &PerZone<Option<f64>>) -> Option<(ZoneId, f64)> {
    let known = times.with_ids().filter_map(|(zone, time)| Some((zone, (*time)?)));
    known.min_by(|(_, one), (_, other)| one.total_cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The preferred zone after each of the ticks.
    fn run(
        preferred: &mut Preferred,
        now: &mut Instant,
        ticks: u32,
        times: impl Fn(u32) -> Vec<Option<f64>>,
    ) -> Vec<usize> {
        let tick = |tick| {
            *now += TICK;
            update(preferred, &times(tick), *now).expect("one may be preferred")
        };
        (0..ticks).map(tick).collect()
    }

    fn update(preferred: &mut Preferred, times: &[Option<f64>], now: Instant) -> Option<usize> {
        preferred.update(&times.to_vec().into(), now).map(ZoneId::index)
    }

    fn changes(zones: &[usize]) -> usize {
        zones.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    #[test]
    fn home_is_left_after_a_while_and_found_again() {
        let (mut preferred, mut now) = (Preferred::default(), Instant::now());
        let better = run(&mut preferred, &mut now, 80, |_| vec![Some(40.0), Some(20.0)]);
        assert_eq!((better[0], better[39], better[79]), (0, 0, 1));
        assert_eq!(changes(&better), 1);
        let again = run(&mut preferred, &mut now, 80, |_| vec![Some(20.0), Some(20.0)]);
        assert_eq!((again[0], again[79], changes(&again)), (1, 0, 1));
    }

    #[test]
    fn a_brown_out_is_left_within_a_second() {
        let (mut preferred, mut now) = (Preferred::default(), Instant::now());
        let zones = run(&mut preferred, &mut now, 4, |_| vec![Some(400.0), Some(40.0)]);
        assert_eq!(zones, [0, 0, 1, 1]);
    }

    /// The zone is fast only while nobody reads it.
    #[test]
    fn a_home_that_is_slow_whenever_it_leads_is_tried_ever_less() {
        let (mut preferred, mut now) = (Preferred::default(), Instant::now());
        let (mut zone, mut changed) = (0, 0);
        for _ in 0..600 * 4 {
            now += TICK;
            let home = if zone == 0 { 400.0 } else { 20.0 };
            let next = update(&mut preferred, &[Some(home), Some(40.0)], now).expect("one may be preferred");
            changed += usize::from(next != zone);
            zone = next;
        }
        assert!(changed <= 12, "{changed} changes in ten minutes");
    }

    #[test]
    fn a_dead_zone_is_left_at_once_and_home_is_preferred() {
        let (mut preferred, now) = (Preferred::default(), Instant::now());
        assert_eq!(update(&mut preferred, &[None, Some(80.0), Some(40.0)], now), Some(2));
        assert_eq!(update(&mut preferred, &[Some(41.0), Some(80.0), None], now), Some(0));
        assert_eq!(update(&mut preferred, &[None, None, None], now), None);
        assert_eq!(update(&mut preferred, &[None, Some(f64::INFINITY), None], now), Some(1));
    }

    #[test]
    fn what_is_not_known_yet_neither_leads_nor_loses() {
        let (mut preferred, mut now) = (Preferred::default(), Instant::now());
        let unknown = run(&mut preferred, &mut now, 100, |_| vec![Some(f64::INFINITY), Some(1.0)]);
        assert!(unknown.iter().all(|zone| *zone == 0));
        let other = run(&mut preferred, &mut now, 100, |_| vec![Some(100.0), Some(f64::INFINITY)]);
        assert!(other.iter().all(|zone| *zone == 0));
    }

    proptest! {
        /// With noise of a tenth around any times: at most one change, to the better zone.
        #[test]
        fn no_flapping_under_noise(means in prop::collection::vec(5.0..200.0_f64, 2..6), noise in prop::collection::vec(0.9..1.1_f64, 6 * 400)) {
            let (mut preferred, mut now) = (Preferred::default(), Instant::now());
            let times = |tick: u32| means.iter().enumerate().map(|(zone, mean)| Some(mean * noise[(tick as usize * 6 + zone) % noise.len()])).collect();
            let zones = run(&mut preferred, &mut now, 400, times);
            prop_assert!(changes(&zones) <= 2, "{zones:?}");
            let last = means[*zones.last().expect("some")];
            let least = means.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(last * 0.7 <= least * 1.3 + 12.0, "{last} is preferred, {least} is there");
        }
    }
}
