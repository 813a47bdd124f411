//! The queue of copies at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use replication::{Ages, AtRisk, Durations as Took, Failures, LaneStatus};

/// The queue at one moment.
#[derive(Debug, Default, Clone)]
pub struct Sample {
    /// `None` while the journal cannot be read, and nor are the next two.
    pub lanes: Option<Vec<LaneStatus>>,
    /// Empty, too, where it was not read in time.
    pub ages: BTreeMap<Arc<str>, Ages>,
    /// Of every zone that should have all blobs; empty where it was not read in time.
    pub at_risk: Vec<AtRisk>,
    /// Copies that ended well, by zone.
    pub finished: BTreeMap<Arc<str>, Took>,
    /// Copies that failed, by zone and reason.
    pub failures: Vec<(Arc<str>, Failures)>,
    /// Of this process, over the last minute.
    pub rates: BTreeMap<Arc<str>, Rate>,
}

/// What a lane does in a second.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Copies that end well.
    pub copies: f64,
    /// Bytes that are moved.
    pub bytes: f64,
}
