//! Counts what clients get, by where it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use operations::reports::{SourceReport, TrafficReport};
use parking_lot::RwLock;

/// What clients got since the start.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    requests: AtomicU64,
    /// There are as many sources as zones, and the cache and the registry.
    sources: RwLock<BTreeMap<Arc<str>, SourceTally>>,
}

/// The counts of one source. An answer carries it as an extension until its body is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceTally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bodies: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    /// Counts an answered request.
    pub(crate) fn answered(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a body that begins. Returns the counts of its source.
    pub(crate) fn begun(&self, source: &str) -> SourceTally {
        let known = self.sources.read().get(source).cloned();
        let tally = known.unwrap_or_else(|| self.sources.write().entry(source.into()).or_default().clone());
        tally.0.bodies.fetch_add(1, Ordering::Relaxed);
        tally
    }

    /// All counts.
    pub(crate) fn report(&self) -> TrafficReport {
        let of = |(source, tally): (&Arc<str>, &SourceTally)| SourceReport {
            source: source.to_string(),
            bodies: tally.0.bodies.load(Ordering::Relaxed),
            bytes: tally.0.bytes.load(Ordering::Relaxed),
        };
        TrafficReport {
            requests: self.requests.load(Ordering::Relaxed),
            sources: self.sources.read().iter().map(of).collect(),
        }
    }
}

impl SourceTally {
    /// Counts bytes that were sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
