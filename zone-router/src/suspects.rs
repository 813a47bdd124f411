//! Zones that gave wrong bytes for a digest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backends::Digest;
use dashmap::DashMap;
use tokio::time::Instant;

use crate::ZoneId;
use crate::rank::Standing;

/// How long a zone is passed over for a digest: long enough that the client's next attempt gets another zone, short
/// enough that a corrected object is soon used again.
const MEMORY: Duration = Duration::from_secs(300);

/// Remembered (digest, zone) pairs; beyond it, the expired are dropped, then new ones not kept.
const PAIRS_MAX: usize = 10_000;

/// The zones that gave wrong bytes, by digest.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    pairs: DashMap<(Digest, ZoneId), (Standing, Instant)>,
    /// Whether there was ever a pair.
    any: AtomicBool,
}

impl Suspects {
    /// What is known of one zone for one digest.
    pub(crate) fn standing(&self, digest: &Digest, zone: ZoneId) -> Standing {
        // If no zone ever gave wrong bytes, no lock is taken.
        if !self.any.load(Ordering::Relaxed) {
            return Standing::Clear;
        }
        match self.pairs.get(&(*digest, zone)).as_deref() {
            Some((standing, until)) if Instant::now() < *until => *standing,
            _ => Standing::Clear,
        }
    }

    /// A zone alone gave wrong bytes, or has an object of a size that the blob cannot have.
    pub(crate) fn condemn(&self, digest: &Digest, zone: ZoneId) {
        self.remember(digest, zone, Standing::Condemned);
    }

    /// These zones gave bytes that were wrong. If one zone gave all of them, it is condemned; if several gave parts,
    /// each is suspect.
    pub(crate) fn blame(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        match zones {
            [zone] if !others_too => self.condemn(digest, *zone),
            _ => zones.iter().for_each(|zone| self.remember(digest, *zone, Standing::Suspect)),
        }
    }

    /// These zones gave the right bytes: a zone that gave all of it is cleared.
    pub(crate) fn acquit(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        if let [zone] = zones
            && !others_too
        {
            self.pairs.remove(&(*digest, *zone));
        }
    }

    fn remember(&self, digest: &Digest, zone: ZoneId, standing: Standing) {
        let now = Instant::now();
        if self.pairs.len() >= PAIRS_MAX {
            self.pairs.retain(|_, (_, until)| now < *until);
        }
        if self.pairs.len() < PAIRS_MAX {
            self.pairs.insert((*digest, zone), (standing, now + MEMORY));
            self.any.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ZoneId = ZoneId::HOME;
    const NEXT: ZoneId = ZoneId::at(1);

    #[tokio::test(start_paused = true)]
    async fn guilt_is_bounded_in_time() {
        let suspects = Suspects::default();
        suspects.blame(&Digest::EMPTY, &[NEXT], false);
        assert_eq!(suspects.standing(&Digest::EMPTY, NEXT), Standing::Condemned);
        assert_eq!(suspects.standing(&Digest::EMPTY, HOME), Standing::Clear);
        tokio::time::advance(MEMORY).await;
        assert_eq!(suspects.standing(&Digest::EMPTY, NEXT), Standing::Clear);
    }

    #[tokio::test]
    async fn shared_blame_is_suspicion_and_a_proven_read_clears() {
        let suspects = Suspects::default();
        suspects.blame(&Digest::EMPTY, &[HOME, NEXT], false);
        assert_eq!(suspects.standing(&Digest::EMPTY, HOME), Standing::Suspect);
        suspects.acquit(&Digest::EMPTY, &[HOME], false);
        assert_eq!(suspects.standing(&Digest::EMPTY, HOME), Standing::Clear);
        assert_eq!(suspects.standing(&Digest::EMPTY, NEXT), Standing::Suspect);
    }
}
