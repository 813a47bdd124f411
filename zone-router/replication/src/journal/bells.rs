//! What tells lanes that there is work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A bell for each zone that anybody listens for. A ring is kept until it is heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Bells(Arc<Mutex<HashMap<Arc<str>, Arc<Notify>>>>);

impl Bells {
    /// The zone's bell.
    pub(super) fn of(&self, zone: &Arc<str>) -> Arc<Notify> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bells.entry(Arc::clone(zone)).or_default())
    }

    /// Rings one zone's, if anybody listens.
    pub(super) fn ring(&self, zone: &str) {
        if let Some(bell) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(zone) {
            bell.notify_one();
        }
    }

    /// Rings every one.
    pub(super) fn ring_all(&self) {
        let bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.values().for_each(|bell| bell.notify_one());
    }
}
