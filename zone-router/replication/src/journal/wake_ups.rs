//! Notifies the lanes that there is work.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One [`Notify`] for each zone that a lane waits for. If nobody waits when a zone is woken, the wake-up is
/// kept until the next wait.
#[derive(Debug, Clone, Default)]
pub(super) struct WakeUps(Arc<Mutex<HashMap<Arc<str>, Arc<Notify>>>>);

impl WakeUps {
    /// The [`Notify`] of a zone.
    pub(super) fn of(&self, zone: &Arc<str>) -> Arc<Notify> {
        let mut zones = self.0.lock();
        Arc::clone(zones.entry(Arc::clone(zone)).or_default())
    }

    /// Wakes the lane that waits for this zone.
    pub(super) fn wake(&self, zone: &str) {
        if let Some(notify) = self.0.lock().get(zone) {
            notify.notify_one();
        }
    }

    /// Wakes all lanes.
    pub(super) fn wake_all(&self) {
        let zones = self.0.lock();
        zones.values().for_each(|notify| notify.notify_one());
    }
}
