//! The state of the queue of copies at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use replication::{Ages, AtRisk, Durations, Failures, LaneStatus};

/// The state of the queue at one moment.
#[derive(Debug, Default, Clone)]
pub struct Sample {
    /// The queues of the zones. `None` while the journal cannot be read; the next two are then empty.
    pub lanes: Option<Vec<LaneStatus>>,
    /// The ages of pending copies, by zone. Empty if they were not read in time.
    pub ages: BTreeMap<Arc<str>, Ages>,
    /// The blobs at risk, for every target zone. Empty if they were not read in time.
    pub at_risk: Vec<AtRisk>,
    /// Copies that succeeded, by zone.
    pub finished: BTreeMap<Arc<str>, Durations>,
    /// Copies that failed, by zone and reason.
    pub failures: Vec<(Arc<str>, Failures)>,
    /// The rates of this process over the last minute, by zone.
    pub rates: BTreeMap<Arc<str>, Rate>,
}

/// The rates of one zone's copies.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Copies that succeed, a second.
    pub copies: f64,
    /// Bytes that are copied, a second.
    pub bytes: f64,
}
