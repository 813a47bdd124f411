//! Counts reloads of the configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted about reloads of the configuration.
#[derive(Debug)]
pub(crate) struct Reloads {
    applied: Counter,
    refused: Counter,
    loaded: Gauge,
    keys_for_restart: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    /// `applied` or `refused`.
    result: &'static str,
}

/// Seconds since 1970.
pub(super) fn seconds(at: SystemTime) -> i64 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl Reloads {
    /// The first configuration was applied just now.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reloads = Family::<ReloadLabels, Counter>::default();
        let help = "How often the configuration was read again and differed or was asked for, by result";
        registry.register("config_reloads", help, reloads.clone());
        let [loaded, keys_for_restart] = [(); 2].map(|()| Gauge::default());
        let help = "When a configuration was last applied, in seconds since 1970";
        registry.register("config_loaded_timestamp_seconds", help, loaded.clone());
        let help = "Keys of the configuration that have changed and need a restart";
        registry.register("config_keys_for_restart", help, keys_for_restart.clone());
        loaded.set(seconds(SystemTime::now()));
        // They are there from the start, so that the first one counts as an increase.
        let [applied, refused] =
            ["applied", "refused"].map(|result| reloads.get_or_create_owned(&ReloadLabels { result }));
        Self { applied, refused, loaded, keys_for_restart }
    }

    /// Counts a configuration that was applied.
    pub(crate) fn applied(&self) {
        self.applied.inc();
        self.loaded.set(seconds(SystemTime::now()));
    }

    /// Counts a configuration that was refused.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    /// Records how many keys have changed that need a restart.
    pub(crate) fn keys_for_restart(&self, keys: usize) {
        self.keys_for_restart.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}
