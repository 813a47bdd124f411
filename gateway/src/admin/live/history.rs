//! The latency and the reads of each zone over the last minutes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use super::state::State;

/// Snapshots from one point of the history to the next.
const SNAPSHOTS_A_POINT: u32 = 5;

/// Points that are kept of each zone: five minutes.
const POINTS_MAX: usize = 60;

/// Points over which rates are computed: one minute.
const RATE_POINTS: usize = 12;

/// The history of all zones.
#[derive(Debug, Default)]
pub(super) struct History {
    zones: HashMap<Arc<str>, ZoneHistory>,
    noted: u32,
}

#[derive(Debug, Default)]
struct ZoneHistory {
    points: VecDeque<Point>,
    /// The counts now.
    counts: Counts,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    /// The latest latency of the point.
    latency: Option<f64>,
    /// The counts at its begin.
    counts: Counts,
}

/// Reads and bytes since the start.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    reads: u64,
    bytes: u64,
}

impl ZoneHistory {
    /// Reads and bytes over the last minute.
    fn lately(&self) -> Counts {
        let first = self.points.len().saturating_sub(RATE_POINTS);
        let before = self.points.get(first).map(|point| point.counts).unwrap_or_default();
        Counts {
            reads: self.counts.reads.saturating_sub(before.reads),
            bytes: self.counts.bytes.saturating_sub(before.bytes),
        }
    }
}

/// What the history says of one zone.
#[derive(Debug, Serialize)]
pub(super) struct Trend {
    /// Milliseconds, oldest first. `None` while the zone did not answer probes.
    latency: Vec<Option<f64>>,
    /// The share of all reads over the last minute, from 0 to 1. `None` if there were none.
    share_of_reads: Option<f64>,
    /// Reads and bytes over the last minute.
    reads: u64,
    bytes: u64,
}

impl History {
    /// Notes the state of a moment. Zones that are gone are forgotten.
    pub(super) fn note(&mut self, state: &State) {
        let begins = self.noted.is_multiple_of(SNAPSHOTS_A_POINT);
        self.noted = self.noted.wrapping_add(1);
        self.zones.retain(|name, _| state.zones.iter().any(|zone| zone.name == *name));
        for zone in &state.zones {
            let history = self.zones.entry(Arc::clone(&zone.name)).or_default();
            history.counts = Counts { reads: zone.reads, bytes: zone.bytes };
            match history.points.back_mut() {
                Some(last) if !begins => last.latency = zone.latency,
                _ => history.points.push_back(Point { latency: zone.latency, counts: history.counts }),
            }
            if history.points.len() > POINTS_MAX {
                history.points.pop_front();
            }
        }
    }

    /// The trend of every zone.
    pub(super) fn trends(&self) -> BTreeMap<String, Trend> {
        let all: u64 = self.zones.values().map(|history| history.lately().reads).sum();
        let trend = |(name, history): (&Arc<str>, &ZoneHistory)| {
            let Counts { reads, bytes } = history.lately();
            let trend = Trend {
                latency: history.points.iter().map(|point| point.latency.map(rounded)).collect(),
                share_of_reads: (all > 0).then(|| reads as f64 / all as f64),
                reads,
                bytes,
            };
            (name.to_string(), trend)
        };
        self.zones.iter().map(trend).collect()
    }
}

/// Milliseconds with two digits after the point.
fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::super::state::ZoneState;
    use super::*;

    fn state(reads: &[(&str, u64)]) -> State {
        let zones = reads.iter().map(|(name, reads)| ZoneState::answering(name, 1.234_5, *reads)).collect();
        State::of_zones(zones)
    }

    #[test]
    fn points_have_a_bound_and_zones_that_are_gone_are_forgotten() {
        let mut history = History::default();
        for _ in 0..2 * SNAPSHOTS_A_POINT * POINTS_MAX as u32 {
            history.note(&state(&[("a", 1), ("b", 1)]));
        }
        assert_eq!(history.trends()["a"].latency, [Some(1.23); POINTS_MAX]);
        history.note(&state(&[("a", 1)]));
        assert!(!history.trends().contains_key("b"));
    }

    #[test]
    fn shares_are_those_of_the_last_minute() {
        let mut history = History::default();
        history.note(&state(&[("a", 1000), ("b", 0)]));
        assert_eq!(history.trends()["a"].share_of_reads, None, "there was no read meanwhile");
        history.note(&state(&[("a", 1001), ("b", 3)]));
        let trends = history.trends();
        assert_eq!((trends["a"].share_of_reads, trends["b"].share_of_reads), (Some(0.25), Some(0.75)));
        for _ in 0..SNAPSHOTS_A_POINT * (RATE_POINTS as u32 + 1) {
            history.note(&state(&[("a", 1001), ("b", 3)]));
        }
        assert_eq!(history.trends()["b"].reads, 0, "they are longer ago");
    }
}
