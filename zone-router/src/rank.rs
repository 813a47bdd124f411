//! Decides in which order zones are asked, and says why. Pure.

use crate::ZoneId;

/// What is known about a zone for one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The zone gave no wrong bytes.
    Clear,
    /// The zone and others gave parts of a blob whose bytes were wrong. At least one of them gave wrong bytes.
    Suspect,
    /// The zone alone gave wrong bytes, or has an object of a size that the blob cannot have.
    Quarantined,
}

/// A zone to try, and the reason for its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The zone.
    pub zone: ZoneId,
    /// The reason for its place.
    pub reason: Reason,
}

/// The reason for a zone's place in the order. The variants are in that order, the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The home zone. No other zone was better by the margin for long enough.
    Home,
    /// The zone was better than the home zone by the margin for long enough, or the home zone may not be read first.
    Nearest,
    /// The breaker of the zone is closed. These zones are ordered by their expected times.
    Next,
    /// The zone asked for fewer requests.
    Throttled,
    /// The breaker of the zone is half-open.
    HalfOpen,
    /// The breaker of the zone is open. The zone that failed least recently comes first.
    Open,
    /// An operator drained the zone. It is read only if no other zone gives the blob.
    Drained,
    /// The zone may have given wrong bytes of this blob. It comes after all others.
    Suspect,
}

impl Reason {
    /// The reason in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Nearest => "nearest",
            Self::Next => "next",
            Self::Throttled => "throttled",
            Self::HalfOpen => "on probation",
            Self::Open => "ejected",
            Self::Drained => "drained",
            Self::Suspect => "suspect of wrong bytes",
        }
    }
}

/// A zone's place for one size class. Wrong bytes of a single blob do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The reason for the place.
    pub reason: Reason,
    /// Among zones with the same reason, the one with the lower key comes first. Zones with equal keys keep the
    /// configured order.
    pub key: u64,
}

/// Sorts the zones by their places. A zone that is not read has the place `None`.
#[must_use]
pub fn order(places: impl Iterator<Item = (ZoneId, Option<Place>)>) -> Vec<Candidate> {
    let mut order: Vec<(Place, ZoneId)> = places.filter_map(|(zone, place)| Some((place?, zone))).collect();
    order.sort_unstable();
    order.into_iter().map(|(place, zone)| Candidate { zone, reason: place.reason }).collect()
}

/// The zones to try for one digest, best first: in the given order, but suspects last, and without the quarantined
/// zones.
#[must_use]
pub fn rank(order: &[Candidate], standing: impl Fn(ZoneId) -> Standing) -> Vec<Candidate> {
    let mut ranked = Vec::with_capacity(order.len());
    let mut suspects = 0;
    for candidate in order {
        match standing(candidate.zone) {
            Standing::Clear => ranked.push(*candidate),
            Standing::Suspect => suspects += 1,
            Standing::Quarantined => {}
        }
    }
    if suspects > 0 {
        let suspect = |candidate: &&Candidate| standing(candidate.zone) == Standing::Suspect;
        let last = order.iter().filter(suspect);
        ranked.extend(last.map(|candidate| Candidate { reason: Reason::Suspect, ..*candidate }));
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PerZone;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Standing::Clear), Just(Standing::Suspect), Just(Standing::Quarantined)]
    }

    fn place() -> impl Strategy<Value = Option<Place>> {
        use Reason::{Drained, HalfOpen, Home, Nearest, Next, Open, Throttled};
        let reason = prop::sample::select(vec![Home, Nearest, Next, Throttled, HalfOpen, Open, Drained]);
        prop::option::of((reason, 0..4_u64).prop_map(|(reason, key)| Place { reason, key }))
    }

    proptest! {
        /// Each readable zone that is not quarantined appears once. Suspects are last, the better place is first, and
        /// equal places keep their configured order.
        #[test]
        fn a_stable_order(zones in prop::collection::vec((place(), standing()), 0..9)) {
            let zones = PerZone::from(zones);
            let order = rank(&order(zones.with_ids().map(|(zone, (place, _))| (zone, *place))), |zone| zones[zone].1);
            let mut listed: Vec<ZoneId> = order.iter().map(|candidate| candidate.zone).collect();
            listed.sort_unstable();
            let expected = |zone: &ZoneId| zones[*zone].0.is_some() && zones[*zone].1 != Standing::Quarantined;
            prop_assert_eq!(listed, zones.ids().filter(expected).collect::<Vec<_>>());
            for pair in order.windows(2) {
                let of = |candidate: &Candidate| {
                    let (place, standing) = zones[candidate.zone];
                    (standing == Standing::Suspect, place, candidate.zone)
                };
                prop_assert!(of(&pair[0]) < of(&pair[1]));
            }
        }
    }
}
