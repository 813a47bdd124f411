//! Counts failed copies by the side that failed and the kind of error.

use std::collections::BTreeMap;

use backends::Kind;
use parking_lot::Mutex;

use super::copy::{CopyError, Fault};

/// Failed tries by the side that failed (`target`, `source`, `nowhere`, `registry`,
/// `journal`) and the kind of error (`denied`,
/// `throttled`, `unavailable`, `timeout`, `wrong-bytes`, `invalid`, `source`, `exhausted`, or `none` if no store
/// failed).
pub type Failures = BTreeMap<(&'static str, &'static str), u64>;

/// The failures of one lane since its start.
#[derive(Debug, Default)]
pub(super) struct FailureCounts(Mutex<Failures>);

impl FailureCounts {
    pub(super) fn note(&self, error: &CopyError) {
        let fault = match error.fault {
            Fault::Target => "target",
            Fault::Sources => "source",
            Fault::Nowhere => "nowhere",
            Fault::Registry => "registry",
            Fault::Journal => "journal",
        };
        // If several sources failed, the last one tried counts.
        let kind = error.failures.last().map_or("none", |failure| kind(failure.error.kind()));
        let mut all = self.0.lock();
        *all.entry((fault, kind)).or_default() += 1;
    }

    pub(super) fn all(&self) -> Failures {
        self.0.lock().clone()
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Denied => "denied",
        Kind::Throttled { .. } => "throttled",
        Kind::Unavailable => "unavailable",
        Kind::Timeout => "timeout",
        Kind::Corrupt => "wrong-bytes",
        Kind::Invalid => "invalid",
        Kind::Source => "source",
        Kind::Exhausted => "exhausted",
    }
}
