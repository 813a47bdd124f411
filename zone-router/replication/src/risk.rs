//! Computes which blobs would be lost if a zone were lost now. Pure.

use std::sync::Arc;

use super::journal::Outstanding;

/// Blobs that only one zone has, as far as the journal knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtRisk {
    /// The only zone that has them.
    pub zone: Arc<str>,
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
}

/// The blobs at risk in each of these zones, home first. `outstanding` numbers the zones in the same order.
///
/// A blob counts as stored in every zone for which it has no job. If that is only one zone, the blob is at
/// risk there. If it has jobs for all zones, it is at risk in the home zone, which pushes go to.
#[must_use]
pub fn at_risk(zones: &[Arc<str>], outstanding: &[Outstanding]) -> Vec<AtRisk> {
    let mut all: Vec<_> =
        zones.iter().map(|zone| AtRisk { zone: Arc::clone(zone), blobs: 0, bytes: 0 }).collect();
    for of in outstanding {
        let mut there = (0..zones.len()).filter(|at| of.zones & (1_u64 << (at % 64)) == 0);
        let only = match (there.next(), there.next()) {
            (Some(_), Some(_)) => continue,
            (only, _) => only.unwrap_or(0),
        };
        if let Some(zone) = all.get_mut(only) {
            zone.blobs += of.blobs;
            zone.bytes = zone.bytes.saturating_add(of.bytes);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|n| Arc::from(format!("zone-{n}"))).collect()
    }

    fn bytes(zones: usize, outstanding: &[(u64, u64)]) -> Vec<u64> {
        let outstanding: Vec<_> = outstanding
            .iter()
            .map(|(zones, bytes)| Outstanding { zones: *zones, blobs: 1, bytes: *bytes })
            .collect();
        at_risk(&names(zones), &outstanding).iter().map(|zone| zone.bytes).collect()
    }

    #[test]
    fn only_blobs_in_a_single_zone_are_at_risk() {
        // Jobs for b and c: only home has it. For c: two zones have it. For a and b: only c has it. For all: home.
        assert_eq!(bytes(3, &[(0b110, 1), (0b100, 10), (0b011, 100), (0b111, 1000)]), [1001, 0, 100]);
        // One zone, which has it.
        assert_eq!(bytes(1, &[(0, 5), (1, 7)]), [12]);
        assert_eq!(bytes(0, &[(0, 5)]), [0_u64; 0]);
    }

    proptest! {
        #[test]
        fn each_blob_is_at_risk_in_one_zone_at_most(zones in 1..8_usize, masks in prop::collection::vec(0..256_u64, 0..20)) {
            let all: Vec<_> = masks.iter().map(|mask| (mask & ((1 << zones) - 1), 1)).collect();
            let counted: u64 = bytes(zones, &all).iter().sum();
            let alone = all.iter().filter(|(mask, _)| zones - mask.count_ones() as usize <= 1).count();
            prop_assert_eq!(counted, alone as u64);
        }
    }
}
