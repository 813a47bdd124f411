//! The policy of a zone: what an operator sets. It overrides what is measured.

use std::time::Duration;

/// How an operator wants a zone to be read; may change at any time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// While this is set, the zone is read only for what no other zone gives; copies still arrive. It is for work on a
    /// store.
    pub drain: bool,
    /// Whether it is ever read. A store that is only for disasters, or whose bytes cost money, is not.
    pub reads: bool,
    /// Above 0; the times of the zone are divided by it before zones are compared. A zone whose bytes cost money gets
    /// less than 1.
    pub weight: f64,
    /// Its time to a first byte, if measuring is misleading: for example, an anycast front answers nearby and fetches
    /// from afar.
    pub latency_hint: Option<Duration>,
}

impl Policy {
    /// The bounds of [`Policy::weight`].
    pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

    /// Whether it is read like any other.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.reads && !self.drain
    }
}

impl Default for Policy {
    /// Read, as it is measured.
    fn default() -> Self {
        Self { drain: false, reads: true, weight: 1.0, latency_hint: None }
    }
}
