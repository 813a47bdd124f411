//! The policy of a zone, which an operator sets. It overrides what is measured.

use std::time::Duration;

/// How an operator wants a zone to be read. It may change at any time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// If this is set, the zone is read only for blobs that no other zone gives. Copies still arrive. An operator sets
    /// it for work on a store.
    pub drain: bool,
    /// Whether the zone is ever read. If a store is only for disasters, or its bytes cost money, it is not.
    pub reads: bool,
    /// The weight of the zone, above 0. Its times are divided by the weight before zones are compared. A zone whose
    /// bytes cost money gets less than 1.
    pub weight: f64,
    /// The time to a first byte, to be used if measurements mislead. For example, an anycast front answers nearby and
    /// fetches from afar.
    pub latency_hint: Option<Duration>,
}

impl Policy {
    /// The bounds of [`Policy::weight`].
    pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

    /// Whether the zone is read like any other.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.reads && !self.drain
    }
}

impl Default for Policy {
    /// The zone is read, and its times are as measured.
    fn default() -> Self {
        Self { drain: false, reads: true, weight: 1.0, latency_hint: None }
    }
}
