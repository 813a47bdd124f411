//! What a configuration that is read again changes in a running gateway: the operator's word on
//! its zones, and the limits of copies. Everything else needs a restart.

use std::sync::Arc;

use zone_router::Policy;

use crate::Gateway;
use config::Settings;

/// A way to tell a running gateway of another configuration.
#[derive(Debug, Clone)]
pub struct Reloader(pub(crate) Arc<Gateway>);

impl Reloader {
    /// Takes over `routing.zones` and `replication.limits`.
    pub fn reload(&self, settings: &Settings) {
        let zones = self.0.router.zones();
        self.0.word.configure(zones.map(|zone| policy(settings, &zone.name)).collect());
        self.0.fanout.set_limits(&settings.copy_limits);
        let same = settings.zones.len() == self.0.router.zones().len()
            && settings.zones.iter().zip(self.0.router.zones()).all(|(new, old)| new.name == *old.name);
        match same {
            true => tracing::info!(
                "configuration read again: routing.zones and replication.limits hold, all else after a restart"
            ),
            false => tracing::warn!(
                "configuration read again: its zones are others, which needs a restart; routing.zones and replication.limits hold for those that stay"
            ),
        }
    }
}

/// What is said of a zone, if it is still there.
fn policy(settings: &Settings, name: &str) -> Option<Policy> {
    settings.zones.iter().find(|zone| zone.name == name).map(|zone| zone.policy)
}
