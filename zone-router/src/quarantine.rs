//! Zones that gave wrong bytes for a digest.

use backends::Digest;

use crate::ZoneId;
use crate::memory::Memory;
use crate::rank::Standing;

/// The zones that gave wrong bytes, by digest.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Memory<(Digest, ZoneId), Standing>);

impl Quarantine {
    /// What is known about one zone for one digest.
    pub(crate) fn standing(&self, digest: &Digest, zone: ZoneId) -> Standing {
        self.0.get(&(*digest, zone)).unwrap_or(Standing::Clear)
    }

    /// Records that a zone alone gave wrong bytes, or has an object of a size that the blob cannot have.
    pub(crate) fn add(&self, digest: &Digest, zone: ZoneId) {
        self.0.note((*digest, zone), Standing::Quarantined);
    }

    /// Records that these zones gave wrong bytes. If one zone gave all of them, it is quarantined. If several zones
    /// gave parts, each is suspect.
    pub(crate) fn blame(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        match zones {
            [zone] if !others_too => self.add(digest, *zone),
            _ => zones.iter().for_each(|zone| self.0.note((*digest, *zone), Standing::Suspect)),
        }
    }

    /// Records that these zones gave the right bytes. A zone that gave all of them is cleared.
    pub(crate) fn clear(&self, digest: &Digest, zones: &[ZoneId], others_too: bool) {
        if let [zone] = zones
            && !others_too
        {
            self.0.forget(&(*digest, *zone));
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
        let quarantine = Quarantine::default();
        quarantine.blame(&Digest::EMPTY, &[NEXT], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Quarantined);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Clear);
        tokio::time::advance(MEMORY).await;
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Clear);
    }

    #[tokio::test]
    async fn shared_blame_is_suspicion_and_a_proven_read_clears() {
        let quarantine = Quarantine::default();
        quarantine.blame(&Digest::EMPTY, &[HOME, NEXT], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Suspect);
        quarantine.clear(&Digest::EMPTY, &[HOME], false);
        assert_eq!(quarantine.standing(&Digest::EMPTY, HOME), Standing::Clear);
        assert_eq!(quarantine.standing(&Digest::EMPTY, NEXT), Standing::Suspect);
    }
}
