//! The bounds of routing.

use std::time::Duration;

use backends::Backoff;

/// Bounds for probes, hedges, waits and the pauses of breakers. The defaults suit stores that are 1 to 200 ms away.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The time between two probes of a zone whose breaker is closed. If no client reads meanwhile, an outage is
    /// detected after this time and three failed probes.
    pub probe_interval: Duration,
    /// The time between two probes while the zone is suspect or its breaker is half-open.
    pub suspect_interval: Duration,
    /// The most probes of one zone per hour, because each costs a request. If this limit is reached, the probes are
    /// spread evenly.
    pub probes_per_hour: u32,
    /// The pause of an open breaker, before a probe may make it half-open. It doubles up to `max` each time the breaker
    /// opens soon after the last time.
    pub pause: Backoff,
    /// The shortest pause after wrong bytes.
    pub wrong_bytes: Duration,
    /// The share of hedges, in percent of all reads.
    pub hedge_percent: f64,
    /// If more reads than this wait for a first byte, no hedge is started.
    pub hedge_load: usize,
    /// The most overdue requests that are replaced at once.
    pub replacements: usize,
    /// The shortest time after which a zone's headers are overdue. The time itself is computed from the zone's own 95th
    /// percentile.
    pub overdue_min: Duration,
    /// The longest time after which they are overdue. It is used until the zone has enough samples. A late probe may
    /// take this much longer, and a half-open breaker waits twice as long for a read.
    pub overdue_max: Duration,
    /// If a body gives no byte for this long, another zone continues, if there is one.
    pub stall: Duration,
    /// If a body is slower than this, in bytes per second, it continues in another zone that is known to be faster.
    pub slowest: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            suspect_interval: Duration::from_millis(100),
            probes_per_hour: 4000,
            pause: Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) },
            wrong_bytes: Duration::from_secs(30),
            hedge_percent: 5.0,
            hedge_load: 256,
            replacements: 256,
            overdue_min: Duration::from_millis(100),
            overdue_max: Duration::from_secs(1),
            stall: Duration::from_millis(600),
            slowest: 1 << 20,
        }
    }
}
