//! `routing`: policies of single zones, and bounds of probes and hedges.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use zone_router::{Policy, Settings};

use super::ConfigError;
use super::env::keys;
use super::located::Located;
use super::settings::NamedZone;
use super::words::words;

/// Keys of `routing`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RoutingEntry {
    /// Policies of single zones, by name.
    pub(super) zones: std::collections::BTreeMap<String, Located<ZoneRoutingEntry>>,
    /// From one probe of a healthy zone to the next.
    #[serde(with = "humantime_serde")]
    pub(super) probe_interval: Duration,
    /// The most probes of one zone in an hour, which bounds their cost.
    pub(super) probes_per_hour: u32,
    /// The most hedges, in percent of reads.
    pub(super) hedge_percent: f64,
    /// The longest time from one probe of a failing zone to the next.
    #[serde(with = "humantime_serde")]
    pub(super) ejection_max: Duration,
    /// If a body gives no byte for this long, another zone continues it.
    #[serde(with = "humantime_serde")]
    pub(super) stall: Duration,
    /// If a body is slower than this, in bytes a second, a faster zone continues it.
    pub(super) slowest: ByteSize,
}

impl Default for RoutingEntry {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            zones: Default::default(),
            probe_interval: settings.probe_interval,
            probes_per_hour: settings.probes_per_hour,
            hedge_percent: settings.hedge_percent,
            ejection_max: settings.pause.max,
            stall: settings.stall,
            slowest: ByteSize(settings.slowest),
        }
    }
}

keys!(RoutingEntry { zones, probe_interval, probes_per_hour, hedge_percent, ejection_max, stall, slowest });

/// The policy of one zone.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ZoneRoutingEntry {
    drain: bool,
    reads: Reads,
    weight: f64,
    #[serde(with = "humantime_serde")]
    latency: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Always,
    Never,
}

words!(Reads, "routing.zones: reads", "always" => Self::Always, "never" => Self::Never);

impl Default for ZoneRoutingEntry {
    fn default() -> Self {
        let Policy { drain, weight, latency_hint, .. } = Policy::default();
        Self { drain, reads: Reads::Always, weight, latency: latency_hint }
    }
}

impl ZoneRoutingEntry {
    fn policy(self) -> Policy {
        Policy {
            drain: self.drain,
            reads: self.reads == Reads::Always,
            weight: self.weight,
            latency_hint: self.latency,
        }
    }
}

/// Allowed probe intervals. Shorter ones would be a load; longer ones would not detect an outage.
const PROBE_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// Allowed values of the other durations.
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

impl RoutingEntry {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A value is out of its range.
    pub(super) fn settings(&self, path: &Path) -> Result<Settings, ConfigError> {
        let refuse = |why: String| Err(ConfigError::new(path, None, format!("routing.{why}")));
        let within = |time: Duration, (least, most): (Duration, Duration)| (least..=most).contains(&time);
        if !within(self.probe_interval, PROBE_INTERVALS) {
            return refuse("probe_interval: must be between 100ms and 1h".into());
        }
        if self.probes_per_hour == 0 {
            return refuse(
                "probes_per_hour: must be at least 1: without probes, clients would meet an outage first"
                    .into(),
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
        settings.pause.max = self.ejection_max;
        settings.pause.base = settings.pause.base.min(self.ejection_max);
        settings.stall = self.stall;
        settings.slowest = self.slowest.as_u64();
        Ok(settings)
    }

    /// Gives each zone that `routing.zones` names its policy.
    ///
    /// # Errors
    /// There is no zone of a name, a weight is out of its range, or no zone would be read.
    pub(super) fn set_policies(&self, path: &Path, zones: &mut [NamedZone]) -> Result<(), ConfigError> {
        for (name, routing) in &self.zones {
            let refuse =
                |why: String| Err(ConfigError::new(path, routing.line, format!("routing.zones.{name}{why}")));
            if !Policy::WEIGHTS.contains(&routing.value.weight) {
                return refuse(
                    ".weight: must be between 0.01 and 100; 1 leaves the measured order unchanged".into(),
                );
            }
            match zones.iter_mut().find(|zone| zone.name == *name) {
                Some(zone) => zone.policy = routing.value.policy(),
                None => {
                    let known: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
                    return refuse(format!(": there is no such zone; zones are {}", known.join(", ")));
                }
            }
        }
        if !zones.is_empty() && !zones.iter().any(|zone| zone.policy.is_read()) {
            let why = "routing.zones: every zone is drained or never read, so no blob could be read; leave at least one";
            return Err(ConfigError::new(path, None, why));
        }
        Ok(())
    }
}
