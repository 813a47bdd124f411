//! How often one read has tried each zone.

/// How often a zone may fail one read: once, and once more when all others have failed too.
const FAILURES_MAX: u8 = 2;

/// Tries of all zones. One that was outrun or overdue has not failed: it may still be all there is.
#[derive(Debug, Clone)]
pub(crate) struct Tries(Vec<Tried>);

#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    asked: u8,
    failed: u8,
}

impl Tries {
    /// None yet, of so many zones.
    pub(crate) fn new(zones: usize) -> Self {
        Self(vec![Tried::default(); zones])
    }

    /// One is asked.
    pub(crate) fn ask(&mut self, zone: usize) {
        self.0[zone].asked = self.0[zone].asked.saturating_add(1);
    }

    /// It failed, or its body did.
    pub(crate) fn fail(&mut self, zone: usize) {
        self.0[zone].failed = self.0[zone].failed.saturating_add(1);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self, zone: usize) -> u8 {
        self.0[zone].asked
    }

    /// Whether it may be asked once more.
    pub(crate) fn may_ask(&self, zone: usize) -> bool {
        self.0[zone].failed < FAILURES_MAX
    }
}
