//! How long jobs took, counted as they end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Took;

/// What a process's lanes have finished, zone by zone.
#[derive(Debug, Default, Clone)]
pub(super) struct Finished(Arc<Mutex<BTreeMap<Arc<str>, Took>>>);

impl Finished {
    pub(super) fn note(&self, zone: &Arc<str>, took: Duration) {
        let mut zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        zones.entry(Arc::clone(zone)).or_default().note(took);
    }

    pub(super) fn all(&self) -> BTreeMap<Arc<str>, Took> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
