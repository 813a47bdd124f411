//! The operator's word on a zone. It stands above whatever is measured.

use std::time::Duration;

/// What an operator says of a zone; may change at any time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// No reads but of what no other zone gives, for as long as this stands; copies still arrive. For work on
    /// a store.
    pub drain: bool,
    /// Whether it is ever read: not for a store that is for disasters only, or costs by the byte.
    pub reads: bool,
    /// How much it is wanted, above 0: its times are divided by it before zones are compared. A
    /// zone whose bytes cost money gets less than 1.
    pub weight: f64,
    /// Its time to a first byte where measuring lies, as with an anycast front that answers nearby
    /// and fetches from afar.
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
