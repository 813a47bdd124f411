//! How zones are read: what an operator says of each, and the bounds of probes and hedges.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use zone_router::{Policy, Settings};

use super::ConfigError;
use super::bounds::settable;
use super::located::Located;
use super::settings::NamedZone;

/// Keys of `routing:` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Routing {
    /// What is said of single zones, by name.
    pub(super) zones: std::collections::BTreeMap<String, Located<ZoneRouting>>,
    /// Between two probes of a zone that serves.
    #[serde(with = "humantime_serde")]
    pub(super) probe_interval: Duration,
    /// Probes of one zone an hour: what they may cost.
    pub(super) probes_per_hour: u32,
    /// Second requests against slow first ones, percent of reads.
    pub(super) hedge_percent: f64,
    /// The longest that a failing zone is left alone before it is probed again.
    #[serde(with = "humantime_serde")]
    pub(super) ejection_max: Duration,
    /// A body that gives nothing for so long goes on in another zone.
    #[serde(with = "humantime_serde")]
    pub(super) stall: Duration,
    /// Bytes a second below which a body goes on in a faster zone.
    pub(super) slowest: ByteSize,
}

impl Default for Routing {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            zones: Default::default(),
            probe_interval: settings.probe_interval,
            probes_per_hour: settings.probes_per_hour,
            hedge_percent: settings.hedge_percent,
            ejection_max: settings.ejection.max,
            stall: settings.stall,
            slowest: ByteSize(settings.slowest),
        }
    }
}

settable!(Routing { zones, probe_interval, probes_per_hour, hedge_percent, ejection_max, stall, slowest });

/// What an operator says of one zone.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ZoneRouting {
    drain: bool,
    reads: Reads,
    weight: f64,
    #[serde(with = "humantime_serde")]
    latency: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reads {
    Always,
    Never,
}

impl Default for ZoneRouting {
    fn default() -> Self {
        let Policy { drain, weight, latency_hint, .. } = Policy::default();
        Self { drain, reads: Reads::Always, weight, latency: latency_hint }
    }
}

impl ZoneRouting {
    fn policy(self) -> Policy {
        Policy {
            drain: self.drain,
            reads: self.reads == Reads::Always,
            weight: self.weight,
            latency_hint: self.latency,
        }
    }
}

/// Shorter intervals would be a load, longer ones would not see an outage.
const PROBE_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// The same for other times.
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

impl Routing {
    /// The bounds, checked.
    pub(super) fn settings(&self, path: &Path) -> Result<Settings, ConfigError> {
        let refuse = |why: String| Err(ConfigError::new(path, None, format!("routing.{why}")));
        let within = |time: Duration, (least, most): (Duration, Duration)| (least..=most).contains(&time);
        if !within(self.probe_interval, PROBE_INTERVALS) {
            return refuse("probe_interval: must be between 100ms and 1h".into());
        }
        if self.probes_per_hour == 0 {
            return refuse(
                "probes_per_hour: without probes an outage is met by clients first; at least 1".into(),
            );
        }
        if !(0.0..=100.0).contains(&self.hedge_percent) {
            return refuse("hedge_percent: must be between 0 and 100".into());
        }
        for (key, time) in [("ejection_max", self.ejection_max), ("stall", self.stall)] {
            if !within(time, TIMES) {
                return refuse(format!("{key}: must be between 100ms and 10m"));
            }
        }
        let mut settings = Settings::default();
        settings.probe_interval = self.probe_interval;
        settings.suspect_interval = settings.suspect_interval.min(self.probe_interval);
        settings.probes_per_hour = self.probes_per_hour;
        settings.hedge_percent = self.hedge_percent;
        settings.ejection.max = self.ejection_max;
        settings.ejection.base = settings.ejection.base.min(self.ejection_max);
        settings.stall = self.stall;
        settings.slowest = self.slowest.as_u64();
        Ok(settings)
    }

    /// What is said of each of these zones, in their order.
    pub(super) fn policies(&self, path: &Path, zones: &[NamedZone]) -> Result<Vec<Policy>, ConfigError> {
        for (name, routing) in &self.zones {
            let refuse =
                |why: String| Err(ConfigError::new(path, routing.line, format!("routing.zones.{name}{why}")));
            if !zones.iter().any(|zone| zone.name == *name) {
                let known: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
                return refuse(format!(": there is no such zone; zones are {}", known.join(", ")));
            }
            if !Policy::WEIGHTS.contains(&routing.value.weight) {
                return refuse(".weight: must be between 0.01 and 100; 1 is as measured".into());
            }
        }
        let policies: Vec<_> = zones
            .iter()
            .map(|zone| self.zones.get(&zone.name).map(|routing| routing.value.policy()).unwrap_or_default())
            .collect();
        if !policies.iter().any(Policy::is_read) {
            let why = "routing.zones: every zone is drained or never read, so no blob could be; leave one";
            return Err(ConfigError::new(path, None, why));
        }
        Ok(policies)
    }
}
