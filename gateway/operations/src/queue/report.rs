//! The queue of copies as JSON, which the admin API sends and the command line reads.

use std::time::{Duration, SystemTime};

use replication::{JobView, LaneStatus};
use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// The queues of all zones at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueReport {
    /// The zones, home first. `None` while the journal cannot be read.
    pub zones: Option<Vec<ZoneQueue>>,
}

/// The pending copies into one zone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneQueue {
    /// The name of the zone.
    pub zone: String,
    /// Whether the zone is configured. If it is not, its copies wait.
    pub configured: bool,
    /// Why the zone cannot be used, if it cannot.
    pub unusable: Option<String>,
    /// Copies that wait or are in progress.
    pub waiting: u64,
    /// Bytes of those copies, as far as they are known.
    pub waiting_bytes: u64,
    /// Seconds since the oldest of those copies was queued.
    pub oldest_seconds: Option<u64>,
    /// How many of those copies have failed at least once.
    pub failing: u64,
    /// Failed attempts of those copies.
    pub attempts: u64,
    /// Copies in progress in this gateway.
    pub active: u64,
    /// Copies that wait for an operator.
    pub parked: u64,
    /// Bytes of the parked copies.
    pub parked_bytes: u64,
    /// The error of the latest failed attempt.
    pub last_error: Option<String>,
    /// Copies that this gateway finished, a second, over the last minute.
    pub copies_per_second: f64,
    /// Bytes that were copied, a second, including those of copies in progress.
    pub bytes_per_second: f64,
    /// Seconds until all copies are done at that rate. Of copies in progress, only the rest counts.
    pub eta_seconds: Option<u64>,
    /// Blobs that only this zone has, as far as the journal knows. `None` if it is not a target zone.
    pub at_risk_blobs: Option<u64>,
    /// Bytes of those blobs, which would be lost together with this zone.
    pub at_risk_bytes: Option<u64>,
}

impl QueueReport {
    /// Creates the report from a sample.
    pub fn new(sample: &Sample, now: SystemTime) -> Self {
        let zone = |lane: &LaneStatus| {
            let rate = sample.rates.get(&lane.zone).copied().unwrap_or_default();
            let risk = sample.at_risk.iter().find(|risk| risk.zone == lane.zone);
            ZoneQueue {
                zone: lane.zone.to_string(),
                configured: lane.configured,
                unusable: lane.unusable.as_deref().map(str::to_owned),
                waiting: lane.waiting,
                waiting_bytes: lane.bytes,
                oldest_seconds: lane.oldest.map(|since| seconds(since, now)),
                failing: lane.failing,
                attempts: lane.attempts,
                active: lane.active,
                parked: lane.parked,
                parked_bytes: lane.parked_bytes,
                last_error: lane.last_error.clone(),
                copies_per_second: rate.copies,
                bytes_per_second: rate.bytes,
                eta_seconds: eta(
                    lane.waiting.saturating_sub(lane.active),
                    lane.bytes.saturating_sub(lane.under_way_bytes),
                    rate.copies,
                    rate.bytes,
                ),
                at_risk_blobs: risk.map(|risk| risk.blobs),
                at_risk_bytes: risk.map(|risk| risk.bytes),
            }
        };
        Self { zones: sample.lanes.as_ref().map(|lanes| lanes.iter().map(zone).collect()) }
    }
}

fn seconds(since: SystemTime, now: SystemTime) -> u64 {
    now.duration_since(since).unwrap_or_default().as_secs()
}

/// Seconds until these jobs and bytes are done at these rates; the longer of the two. `None` if nothing moves.
fn eta(jobs: u64, bytes: u64, jobs_per_second: f64, bytes_per_second: f64) -> Option<u64> {
    let time = |all: u64, rate: f64| match all {
        0 => Some(Duration::ZERO),
        all => Duration::try_from_secs_f64(all as f64 / rate).ok(),
    };
    let (by_jobs, by_bytes) = (time(jobs, jobs_per_second)?, time(bytes, bytes_per_second)?);
    Some(by_jobs.max(by_bytes).as_secs())
}

/// A job as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// The target zone.
    pub zone: String,
    /// The blob.
    pub digest: String,
    /// `waiting`, `failing` or `parked`.
    pub state: String,
    /// The size of the blob in bytes, if it is known.
    pub size: Option<u64>,
    /// Seconds since the job was queued.
    pub since_seconds: u64,
    /// Seconds until the next attempt. `None` if the job is due or parked.
    pub due_seconds: Option<u64>,
    /// Failed attempts.
    pub attempts: u32,
    /// Seconds since the last failed attempt.
    pub failed_seconds: Option<u64>,
    /// Why the last attempt failed, or why the job was parked.
    pub error: Option<String>,
    /// Seconds since the job was parked.
    pub parked_seconds: Option<u64>,
    /// Repositories in which the blob was seen, the latest first.
    pub repositories: Vec<String>,
}

impl JobReport {
    /// Creates the report of a job at the time `now`.
    #[must_use]
    pub fn new(job: JobView, now: SystemTime) -> Self {
        let state = job.state();
        let due = job.due.duration_since(now).ok().filter(|_| job.parked.is_none());
        Self {
            zone: job.zone.to_string(),
            digest: job.digest.to_string(),
            state: state.as_str().to_owned(),
            size: job.size,
            since_seconds: seconds(job.since, now),
            due_seconds: due.map(|due| due.as_secs()),
            attempts: job.attempts,
            failed_seconds: job.failed.map(|failed| seconds(failed, now)),
            error: job.error,
            parked_seconds: job.parked.map(|parked| seconds(parked, now)),
            repositories: job.repositories,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_until_all_is_done() {
        assert_eq!(eta(100, 1000, 10.0, 1000.0), Some(10), "small ones, many");
        assert_eq!(eta(100, 1_000_000, 10.0, 1000.0), Some(1000), "large ones");
        assert_eq!(eta(0, 0, 0.0, 0.0), Some(0));
        assert_eq!(eta(0, 5000, 0.0, 1000.0), Some(5), "the last ones are under way, and none is done yet");
        assert_eq!((eta(1, 0, 0.0, 0.0), eta(1, 1, 1.0, 0.0)), (None, None), "nothing moves");
    }

    proptest! {
        #[test]
        fn more_work_never_takes_less_time(jobs in 0..1_000_000_u64, bytes: u32, more in 0..1000_u64, rate in 0.001..1e9_f64) {
            let of = |jobs| eta(jobs, u64::from(bytes), rate, rate * 10.0);
            prop_assert!(of(jobs + more) >= of(jobs));
        }
    }
}
