//! What stays as it is when a running gateway reads its configuration again.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::ConfigError;
use crate::Settings;

impl Settings {
    /// This configuration, with the values of `running` for every key that needs a restart. It is what a reload
    /// applies.
    ///
    /// # Errors
    /// `registry.kind` differs. It decides what the other keys mean, so none of them can be applied.
    pub fn applied_to(mut self, running: &Self) -> Result<Self, ConfigError> {
        if self.registry_kind != running.registry_kind {
            let path = self.files.first().cloned().unwrap_or_default();
            let why =
                "registry.kind has changed, and it decides what all other keys mean: restart the gateway";
            return Err(ConfigError::new(&path, None, why));
        }
        self.listen = running.listen;
        self.state_dir.clone_from(&running.state_dir);
        self.journal = running.journal.clone();
        self.cache = running.cache.clone();
        self.admin.listen = running.admin.listen;
        self.proxies = Arc::clone(&running.proxies);
        self.auth.freshness = running.auth.freshness;
        self.offline = running.offline;
        self.access_log = running.access_log.clone();
        self.otlp = running.otlp.clone();
        self.opened_roots = running.opened_roots;
        self.limits.open_files = running.limits.open_files;
        self.replication.fetch_max = running.replication.fetch_max;
        match (&mut self.replication.placements, &running.replication.placements) {
            (Some(new), Some(running)) => {
                let locations = std::mem::take(&mut new.locations);
                *new = running.clone();
                new.locations = locations;
            }
            (None, None) => {}
            // Whether copies are recorded decides which zones may get any.
            (new, running_placements) => {
                new.clone_from(running_placements);
                let zones: HashSet<_> = self.zones.iter().map(|zone| &zone.name).collect();
                self.targets =
                    running.targets.iter().filter(|target| zones.contains(target)).cloned().collect();
            }
        }
        Ok(self)
    }
}
