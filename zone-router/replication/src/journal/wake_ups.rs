//! What tells the lanes that there is work.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One [`Notify`] for each zone that somebody waits for. A wake-up that nobody waits for is kept until
/// the next wait.
#[derive(Debug, Clone, Default)]
pub(super) struct WakeUps(Arc<Mutex<HashMap<Arc<str>, Arc<Notify>>>>);

impl WakeUps {
    /// The [`Notify`] of a zone.
    pub(super) fn of(&self, zone: &Arc<str>) -> Arc<Notify> {
        let mut zones = self.0.lock();
        Arc::clone(zones.entry(Arc::clone(zone)).or_default())
    }

    /// Wakes whoever waits for this zone.
    pub(super) fn wake(&self, zone: &str) {
        if let Some(notify) = self.0.lock().get(zone) {
            notify.notify_one();
        }
    }

    /// Wakes whoever waits for any zone.
    pub(super) fn wake_all(&self) {
        let zones = self.0.lock();
        zones.values().for_each(|notify| notify.notify_one());
    }
}
