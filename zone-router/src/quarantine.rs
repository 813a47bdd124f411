//! Zones that gave wrong bytes for a digest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backends::Digest;

use crate::memory::Memory;
use crate::rank::Standing;
use crate::{PerZone, ZoneId};

/// The zones that gave wrong bytes, by digest.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// Routers that follow one another share it.
    standings: Arc<Memory<(Digest, StoreNumber), Standing>>,
    stores: PerZone<StoreNumber>,
}

/// Identifies a store for as long as the process runs. A zone whose store changes gets another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StoreNumber(u64);

impl StoreNumber {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Quarantine {
    /// Nothing is known about this many zones.
    pub(crate) fn new(zones: usize) -> Self {
        Self { standings: Arc::default(), stores: (0..zones).map(|_| StoreNumber::next()).collect() }
    }

    /// The same for a later configuration. `kept` has the present id of each zone whose store is the same.
    pub(crate) fn successor(&self, kept: &PerZone<Option<ZoneId>>) -> Self {
        let store = |before: &Option<ZoneId>| {
            before.and_then(|before| self.stores.get(before).copied()).unwrap_or_else(StoreNumber::next)
        };
        Self { standings: Arc::clone(&self.standings), stores: kept.iter().map(store).collect() }
    }

    /// What is known about one zone for one digest.
    pub(crate) fn standing(&self, digest: &Digest, zone: ZoneId) -> Standing {
        self.standings.get(&(*digest, self.stores[zone])).unwrap_or(Standing::Clear)
    }

    /// Records that a zone alone gave wrong bytes, or has an object of a size that the blob cannot have.
    pub(crate) fn add(&self, digest: &Digest, zone: ZoneId) {
        self.note(digest, zone, Standing::Quarantined);
    }

    fn note(&self, digest: &Digest, zone: ZoneId, standing: Standing) {
        self.standings.note((*digest, self.stores[zone]), standing);
    }

    /// Records that these zones gave wrong bytes. If one zone gave all of them, it is quarantined. If several zones
    /// gave parts, each is suspect.
    pub(crate) fn blame(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        match zones {
            [zone] if !others_too => self.add(digest, *zone),
            _ => zones.iter().for_each(|zone| self.note(digest, *zone, Standing::Suspect)),
        }
    }

    /// Records that these zones gave the right bytes. A zone that gave all of them is cleared.
    pub(crate) fn clear(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        if let [zone] = zones
            && !others_too
        {
            self.standings.forget(&(*digest, self.stores[*zone]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MEMORY;

    const HOME: ZoneId = ZoneId::HOME;
    const NEXT: ZoneId = ZoneId::at(1);

    #[tokio::test(start_paused = true)]
    async fn quarantine_is_bounded_in_time() {
        let quarantine = Quarantine::new(2);
        quarantine.blame(&Digest::EMPTY, &[NEXT], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Quarantined);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Clear);
        tokio::time::advance(MEMORY).await;
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Clear);
    }

    #[tokio::test]
    async fn a_zone_that_keeps_its_store_stays_in_quarantine() {
        let before = Quarantine::new(2);
        before.add(&Digest::EMPTY, NEXT);
        let after = before.successor(&vec![Some(NEXT), Some(HOME), None].into());
        let standing = |zone| after.standing(&Digest::EMPTY, zone);
        assert_eq!(
            [HOME, NEXT, ZoneId::at(2)].map(standing),
            [Standing::Quarantined, Standing::Clear, Standing::Clear]
        );
        before.clear(&Digest::EMPTY, &[NEXT], false);
        assert_eq!(standing(HOME), Standing::Clear, "a read that began before still counts");
    }

    #[tokio::test]
    async fn shared_blame_is_suspicion_and_a_proven_read_clears() {
        let quarantine = Quarantine::new(2);
        quarantine.blame(&Digest::EMPTY, &[HOME, NEXT], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Suspect);
        quarantine.clear(&Digest::EMPTY, &[HOME], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Clear);
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Suspect);
    }
}
