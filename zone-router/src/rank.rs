//! Which zone is asked first: pure, from what is known of the zones to an order with reasons.

/// What is known of a zone for one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Clear,
    /// It gave a part of bytes that turned out wrong, and so did others: one of them lied.
    Suspect,
    /// It alone gave wrong bytes, or nothing under the name of something; or it cannot be used.
    Condemned,
}

/// A zone to try, and why it stands where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the configured order; 0 is home.
    pub zone: usize,
    /// Why here.
    pub reason: Reason,
}

/// Why a zone stands where it does in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The home zone.
    Home,
    /// In the configured order behind home.
    Order,
    /// Behind all others until it has been read and proven again.
    Suspect,
}

/// The zones to try for one digest, best first: in their configured order, suspects last, the
/// condemned not at all.
#[must_use]
pub fn rank(standings: &[Standing]) -> Vec<Candidate> {
    let of = |wanted: Standing| {
        standings.iter().enumerate().filter(move |(_, standing)| **standing == wanted).map(|(zone, _)| zone)
    };
    let clear = of(Standing::Clear)
        .map(|zone| Candidate { zone, reason: if zone == 0 { Reason::Home } else { Reason::Order } });
    let suspect = of(Standing::Suspect).map(|zone| Candidate { zone, reason: Reason::Suspect });
    clear.chain(suspect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Standing::Clear), Just(Standing::Suspect), Just(Standing::Condemned)]
    }

    #[test]
    fn home_first_suspects_last() {
        let order = rank(&[Standing::Suspect, Standing::Clear, Standing::Condemned, Standing::Clear]);
        let zones: Vec<usize> = order.iter().map(|candidate| candidate.zone).collect();
        assert_eq!(zones, [1, 3, 0]);
        assert_eq!(rank(&[Standing::Clear])[0].reason, Reason::Home);
    }

    proptest! {
        #[test]
        fn every_zone_that_is_not_condemned_once(standings in prop::collection::vec(standing(), 0..9)) {
            let order = rank(&standings);
            let mut zones: Vec<usize> = order.iter().map(|candidate| candidate.zone).collect();
            zones.sort_unstable();
            let expected: Vec<usize> = (0..standings.len()).filter(|zone| standings[*zone] != Standing::Condemned).collect();
            prop_assert_eq!(zones, expected);
            let firsts = order.iter().take_while(|candidate| standings[candidate.zone] == Standing::Clear).count();
            prop_assert!(order[firsts..].iter().all(|candidate| standings[candidate.zone] == Standing::Suspect));
        }
    }
}
