//! In which order zones are asked: pure, from what is known of the zones to an order with reasons.

use crate::ZoneId;

/// What is known of a zone for one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gave no wrong bytes.
    Clear,
    /// It gave a part of bytes that were wrong, and so did others: at least one of them gave wrong bytes.
    Suspect,
    /// It alone gave wrong bytes, or an object of a size that the blob cannot have.
    Quarantined,
}

/// A zone to try, and why it stands where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The zone.
    pub zone: ZoneId,
    /// Why here.
    pub reason: Reason,
}

/// Why a zone stands where it does in the order. The first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The home zone, and no other was better by the margin for long enough.
    Home,
    /// Better than the home zone by the margin for long enough; or the home zone may not be read first.
    Nearest,
    /// Its breaker is closed; in the order of expected time.
    Next,
    /// It asked for fewer requests.
    Throttled,
    /// Its breaker is half-open.
    HalfOpen,
    /// Its breaker is open; the least recently failed first.
    Open,
    /// Drained by an operator: read where no other zone gives the blob.
    Drained,
    /// It may have given wrong bytes of this blob: after all others.
    Suspect,
}

impl Reason {
    /// In words.
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

/// A zone's place for one size class. Wrong bytes of single blobs do not count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Why.
    pub reason: Reason,
    /// Among those of one reason the lower comes first; then the configured order.
    pub key: u64,
}

/// The zones in the order of their places; `None` is the place of a zone that is not read.
#[must_use]
pub fn order(places: impl Iterator<Item = (ZoneId, Option<Place>)>) -> Vec<Candidate> {
    let mut order: Vec<(Place, ZoneId)> = places.filter_map(|(zone, place)| Some((place?, zone))).collect();
    order.sort_unstable();
    order.into_iter().map(|(place, zone)| Candidate { zone, reason: place.reason }).collect()
}

/// The zones to try for one digest, best first: of all in their order the suspects last, the
/// quarantined left out.
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
        /// Each readable zone that is not quarantined, once; suspects last; the better place first;
        /// equals in their configured order.
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
