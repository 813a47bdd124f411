//! The state of the zones as JSON, which the admin API sends and the command line reads.

use std::time::Duration;

use replication::LaneStatus;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zone_router::{SizeClass, Snapshot, ZoneId, ZoneView};

/// All zones at one moment, in their configured order, home first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZonesReport {
    /// The zones.
    pub zones: Vec<ZoneReport>,
    /// Whether every zone that may be read is ejected.
    pub all_ejected: bool,
    /// Zone events that were lost under load.
    pub observations_lost: u64,
}

/// One zone. Durations are in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneReport {
    /// The name.
    pub name: String,
    /// `healthy`, `suspect`, `throttled`, `probation`, `ejected`, `misconfigured`, `drained`, `never
    /// read` or `unusable`.
    pub state: String,
    /// Seconds since the health last changed.
    pub since_seconds: u64,
    /// The reason, if the zone is not healthy.
    pub reason: Option<String>,
    /// Whether a command drained the zone, and not the configuration.
    pub drained_by_command: bool,
    /// The configured weight. 1 leaves the measured order unchanged.
    pub weight: f64,
    /// The configured latency, which replaces the measured one.
    pub latency_hint: Option<f64>,
    /// For each size class: the position in the order, and the time to the headers.
    pub classes: Vec<ClassReport>,
    /// The latency of the latest probes.
    pub probe: Option<f64>,
    /// The throughput of one body.
    pub bytes_per_second: Option<u64>,
    /// The share of all reads since the start, from 0 to 1.
    pub share_of_reads: f64,
    /// Counts since the start.
    pub counts: CountsReport,
    /// The last failure.
    pub last_error: Option<String>,
    /// Seconds since the last failure.
    pub last_error_seconds: Option<u64>,
    /// Pending copies into the zone. `None` while the journal cannot be read.
    pub copies_waiting: Option<u64>,
    /// Seconds since the oldest pending copy was queued.
    pub lag_seconds: Option<u64>,
}

/// A zone for one size class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClassReport {
    /// `small`, `medium` or `large`.
    pub class: String,
    /// The position in the order; 1 is asked first. `None` if the zone is not read.
    pub place: Option<usize>,
    /// The reason for the position.
    pub why: Option<String>,
    /// The median time to the headers. `None` after too few reads.
    pub p50: Option<f64>,
    /// The 95th percentile of the time to the headers.
    pub p95: Option<f64>,
    /// How long a request waits for headers before a hedge starts.
    pub hedge_after: f64,
    /// How long a request waits for headers before another zone replaces this one.
    pub overdue_after: f64,
}

/// Counts of a zone since the start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `zone_router::snapshot::Counts`")]
pub struct CountsReport {
    pub reads: u64,
    pub bytes: u64,
    pub hedged: u64,
    pub hedges_won: u64,
    pub overdue: u64,
    #[serde(default)]
    pub excused: u64,
    pub failures: u64,
    pub resumed_elsewhere: u64,
    pub wrong_bytes: u64,
    pub probes: u64,
    pub ejections: u64,
}

/// The result of a command that drains or undrains a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReport {
    /// The name of the zone.
    pub zone: String,
    /// Whether it is drained by command.
    pub drained: bool,
}

impl ZonesReport {
    /// Creates the report from a snapshot, the queues of the zones, their lags, and the zones that a command
    /// drained.
    pub fn new(
        snapshot: &Snapshot,
        lanes: Option<&[LaneStatus]>,
        lags: impl Fn(&LaneStatus) -> Option<Duration>,
        drained: impl Fn(&str) -> bool,
    ) -> Self {
        let reads: u64 = snapshot.zones.iter().map(|zone| zone.counts.reads).sum();
        let zone = |(id, view): (ZoneId, &ZoneView)| {
            let mut report = ZoneReport::new(view, reads);
            report.drained_by_command = drained(&view.name);
            for (class, report) in SizeClass::ALL.into_iter().zip(&mut report.classes) {
                let order = snapshot.rank(class, |_| zone_router::rank::Standing::Clear);
                let place = order.iter().position(|candidate| candidate.zone == id);
                report.place = place.map(|place| place + 1);
                report.why = place.map(|place| order[place].reason.as_str().to_owned());
            }
            if let Some(lane) = lanes.and_then(|lanes| lanes.iter().find(|lane| lane.zone == view.name)) {
                report.copies_waiting = Some(lane.waiting);
                report.lag_seconds = lags(lane).map(|lag| lag.as_secs());
            }
            report
        };
        Self {
            zones: snapshot.zones.with_ids().map(zone).collect(),
            all_ejected: snapshot.all_open,
            observations_lost: snapshot.lost_events,
        }
    }
}

impl ZoneReport {
    fn new(view: &ZoneView, reads: u64) -> Self {
        let now = Instant::now();
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let counts = view.counts;
        let class = |class: SizeClass| {
            let headers = view.headers[class];
            ClassReport {
                class: class.as_str().to_owned(),
                place: None,
                why: None,
                p50: headers.p50.map(ms),
                p95: headers.p95.map(ms),
                hedge_after: ms(headers.hedge_after),
                overdue_after: ms(headers.overdue_after),
            }
        };
        Self {
            name: view.name.to_string(),
            state: state(view, now).to_owned(),
            since_seconds: seconds(view.since),
            reason: view.unusable.as_deref().or(view.reason.as_deref()).map(str::to_owned),
            drained_by_command: false,
            weight: view.policy.weight,
            latency_hint: view.policy.latency_hint.map(ms),
            classes: SizeClass::ALL.into_iter().map(class).collect(),
            probe: view.probe.map(ms),
            bytes_per_second: view.throughput,
            share_of_reads: if reads == 0 { 0.0 } else { counts.reads as f64 / reads as f64 },
            counts: CountsReport {
                reads: counts.reads,
                bytes: counts.bytes,
                hedged: counts.hedged,
                hedges_won: counts.hedges_won,
                overdue: counts.overdue,
                excused: counts.excused,
                failures: counts.failures,
                resumed_elsewhere: counts.resumed_elsewhere,
                wrong_bytes: counts.wrong_bytes,
                probes: counts.probes,
                ejections: counts.opened,
            },
            last_error: view.last_error.as_ref().map(|(error, _)| error.to_string()),
            last_error_seconds: view.last_error.as_ref().map(|(_, at)| seconds(*at)),
            copies_waiting: None,
            lag_seconds: None,
        }
    }
}

/// The state of a zone in one word. What the operator configured comes before what was measured.
pub fn state(view: &ZoneView, now: Instant) -> &'static str {
    if view.unusable.is_some() {
        return "unusable";
    }
    if !view.policy.reads {
        return "never read";
    }
    if view.policy.drain {
        return "drained";
    }
    match view.state.as_str() {
        "healthy" if view.throttled_until.is_some_and(|until| now < until) => "throttled",
        "healthy" if view.suspect => "suspect",
        state => state,
    }
}
