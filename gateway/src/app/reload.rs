//! Applies a reloaded configuration to a running gateway: the policies of its zones, and the limits of
//! copies. Certificates are read again from their files. Everything else needs a restart.

use std::sync::Arc;

use zone_router::Policy;

use crate::Gateway;
use config::Settings;

/// A handle that applies another configuration to a running gateway.
#[derive(Debug, Clone)]
pub struct Reloader(pub(crate) Arc<Gateway>);

impl Reloader {
    /// Reads the certificates that clients see again soon, whatever becomes of the configuration.
    pub fn reload_certificates(&self) {
        self.0.server_tls.reload_soon();
    }

    /// Opens the file of the access log again with its next line.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.0.access_log {
            log.reopen();
        }
    }

    /// Applies `routing.zones` and `replication.limits`.
    pub fn reload(&self, settings: &Settings) {
        let zones = self.0.router.zones();
        self.0.drains.configure(zones.map(|zone| policy(settings, &zone.name)).collect());
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

/// The policy of a zone, if the configuration still has it.
fn policy(settings: &Settings, name: &str) -> Option<Policy> {
    settings.zones.iter().find(|zone| zone.name == name).map(|zone| zone.policy)
}
