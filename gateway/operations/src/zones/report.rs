//! What is known of the zones, as the admin side tells it and the command line reads it.

use std::time::Duration;

use replication::LaneStatus;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zone_router::{SizeClass, Snapshot, ZoneView};

/// All zones at one moment, in their configured order, home first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The zones.
    pub zones: Vec<ZoneReport>,
    /// Whether every zone that may be read is out of use.
    pub all_ejected: bool,
    /// Observations of reads that were lost under load.
    pub observations_lost: u64,
}

/// One zone. Times are in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneReport {
    /// Its name.
    pub name: String,
    /// `healthy`, `suspect`, `throttled`, `probation`, `ejected`, `misconfigured`, `drained`, `never
    /// read` or `unusable`.
    pub state: String,
    /// Seconds since the health is what it is.
    pub since_seconds: u64,
    /// Why, where it is not simply healthy.
    pub reason: Option<String>,
    /// Drained by command, not by the configuration.
    pub drained_by_command: bool,
    /// How much the operator wants it; 1 is as measured.
    pub weight: f64,
    /// The operator's word for what its probes would say.
    pub latency_hint: Option<f64>,
    /// By size class: its place in the order, and how long its headers take.
    pub classes: Vec<ClassReport>,
    /// Its probes of the last seconds.
    pub probe: Option<f64>,
    /// One body's.
    pub bytes_per_second: Option<u64>,
    /// Of all reads since the start, 0 to 1.
    pub share_of_reads: f64,
    /// Counts since the start.
    pub counts: CountsReport,
    /// Its last failure.
    pub last_error: Option<String>,
    /// Seconds since then.
    pub last_error_seconds: Option<u64>,
    /// Copies that it is still owed; absent while the journal cannot be read.
    pub copies_waiting: Option<u64>,
    /// Seconds since the oldest of them was queued.
    pub lag_seconds: Option<u64>,
}

/// A zone for one size class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClassReport {
    /// `small`, `medium` or `large`.
    pub class: String,
    /// 1 is asked first; none if it is not read.
    pub place: Option<usize>,
    /// Why there.
    pub why: Option<String>,
    /// Half of the headers come within this; none of too few reads.
    pub p50: Option<f64>,
    /// All but a twentieth come within this.
    pub p95: Option<f64>,
    /// When a hedge starts.
    pub hedge_after: f64,
    /// When another zone takes its place.
    pub overdue_after: f64,
}

/// What was counted of a zone since the start.
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

impl Report {
    /// Of a snapshot, what is owed to each zone, and who was drained by command.
    pub fn new(
        snapshot: &Snapshot,
        lanes: Option<&[LaneStatus]>,
        lags: impl Fn(&LaneStatus) -> Option<Duration>,
        drained: impl Fn(&str) -> bool,
    ) -> Self {
        let reads: u64 = snapshot.zones.iter().map(|zone| zone.counts.reads).sum();
        let zone = |(index, view): (usize, &ZoneView)| {
            let mut report = ZoneReport::new(view, reads);
            report.drained_by_command = drained(&view.name);
            for (class, report) in SizeClass::ALL.into_iter().zip(&mut report.classes) {
                let order = snapshot.rank(class, |_| zone_router::rank::Standing::Clear);
                let place = order.iter().position(|candidate| candidate.zone == index);
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
            zones: snapshot.zones.iter().enumerate().map(zone).collect(),
            all_ejected: snapshot.all_ejected,
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
            let headers = view.headers[class as usize];
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
                ejections: counts.ejections,
            },
            last_error: view.last_error.as_ref().map(|(error, _)| error.to_string()),
            last_error_seconds: view.last_error.as_ref().map(|(_, at)| seconds(*at)),
            copies_waiting: None,
            lag_seconds: None,
        }
    }
}

/// One word for all that decides whether a zone is read; the operator's comes first.
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
