//! Counts how often one read has tried each zone.

use crate::breaker::CONFIRMED;
use crate::{PerZone, ZoneId};

/// After this many bytes without a failure, earlier failures of a zone are forgotten, so that a large blob can be read
/// over a connection that breaks now and then.
const FORGIVEN_BYTES: u64 = 8 << 20;

/// How often each zone was asked and failed. If a zone lost a race or was overdue, that is no failure: it may be the
/// only zone that has the blob.
#[derive(Debug, Clone)]
pub(crate) struct Tries(PerZone<Tried>);

#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    asked: u8,
    failed: u8,
    /// The bytes that the zone gave since its last failure.
    gave: u64,
}

impl Tries {
    /// No tries yet, for this many zones.
    pub(crate) fn new(zones: usize) -> Self {
        Self(PerZone::filled(zones, Tried::default()))
    }

    /// Records that a zone is asked.
    pub(crate) fn ask(&mut self, zone: ZoneId) {
        self.0[zone].asked = self.0[zone].asked.saturating_add(1);
    }

    /// Records that a zone or its body failed.
    pub(crate) fn fail(&mut self, zone: ZoneId) {
        let tried = &mut self.0[zone];
        (tried.failed, tried.gave) = (tried.failed.saturating_add(1), 0);
    }

    /// Records that a zone gave this many bytes.
    pub(crate) fn gave(&mut self, zone: ZoneId, bytes: u64) {
        let tried = &mut self.0[zone];
        tried.gave = tried.gave.saturating_add(bytes);
        if tried.gave >= FORGIVEN_BYTES {
            tried.failed = 0;
        }
    }

    /// How often a zone was asked.
    pub(crate) fn asked(&self, zone: ZoneId) -> u8 {
        self.0[zone].asked
    }

    /// Whether a zone has not failed. A read may leave a zone that still gives bytes for such a zone. The zone that is
    /// left counts as failed, so the number of changes is bounded.
    pub(crate) fn is_clean(&self, zone: ZoneId) -> bool {
        self.0[zone].failed == 0
    }

    /// Whether a zone may be asked once more. A zone may fail a read once, and once more after all others have failed,
    /// too.
    pub(crate) fn may_ask(&self, zone: ZoneId) -> bool {
        self.0[zone].failed < CONFIRMED
    }
}
