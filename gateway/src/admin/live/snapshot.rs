//! The state of the gateway at one moment, as the stream sends it. It waits for nothing: not for the journal, and not
//! for a disk.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use operations::queue::{QueueReport, ZoneQueue};
use operations::reports::{CacheReport, CertificatesReport, TrafficReport};
use operations::zones::ZonesReport;
use replication::LaneStatus;
use serde::Serialize;

use super::history::Trend;
use super::milliseconds;
use crate::Gateway;

/// The state at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    /// Milliseconds since 1970.
    at: u64,
    gateway: Own,
    #[serde(flatten)]
    zones: ZonesReport,
    /// The last minutes of each zone.
    trends: BTreeMap<String, Trend>,
    /// The queue of each zone, as of some seconds ago. `None` while the journal cannot be read.
    queue: Option<Vec<ZoneQueue>>,
    registry: Vec<Instance>,
    cache: CacheReport,
    traffic: TrafficReport,
    certificates: CertificatesReport,
    limits: Vec<Limit>,
    /// Requests since the start that were not told to subscribers, because there were too many.
    untold_requests: u64,
}

/// The gateway itself.
#[derive(Debug, Serialize)]
struct Own {
    version: &'static str,
    hostname: String,
    /// What commands need: `token`, `loopback`, or `none` if they are not taken over the network.
    commands: &'static str,
}

/// An instance of the registry.
#[derive(Debug, Serialize)]
struct Instance {
    name: String,
    zone: String,
    state: &'static str,
    why: Option<String>,
    uploads: &'static str,
    errors: u64,
}

/// A limit that clients share.
#[derive(Debug, Serialize)]
struct Limit {
    key: &'static str,
    slots: usize,
    used: usize,
    waiting: usize,
    refused: u64,
}

/// The state now.
pub(super) fn snapshot(gateway: &Gateway) -> Snapshot {
    let now = SystemTime::now();
    let sample = gateway.sampler.peek();
    let lanes = sample.as_deref().and_then(|sample| sample.lanes.as_deref());
    let lag = |lane: &LaneStatus| lane.oldest.map(|since| now.duration_since(since).unwrap_or_default());
    let drained = |zone: &str| gateway.drains.is_drained(zone);
    let traffic = gateway.traffic.report();
    Snapshot {
        at: milliseconds(now),
        gateway: Own {
            version: env!("CARGO_PKG_VERSION"),
            hostname: gateway.settings.hostname.clone(),
            commands: match (&gateway.settings.admin.token, gateway.settings.admin.takes_commands()) {
                (Some(_), _) => "token",
                (None, true) => "loopback",
                (None, false) => "none",
            },
        },
        zones: ZonesReport::new(&gateway.router.snapshot(), lanes, lag, drained),
        trends: gateway.live.history.lock().trends(),
        queue: sample.and_then(|sample| QueueReport::new(&sample, now).zones),
        registry: instances(gateway),
        cache: CacheReport::new(gateway.cache.status(), &traffic),
        traffic,
        certificates: CertificatesReport::new(&gateway.server_tls.status(), now),
        limits: limits(gateway),
        untold_requests: gateway.live.untold.load(Ordering::Relaxed),
    }
}

fn instances(gateway: &Gateway) -> Vec<Instance> {
    let instance = |of: registry::upstream::InstanceState| Instance {
        name: of.name.to_string(),
        zone: of.zone.to_string(),
        state: of.state,
        why: of.why,
        uploads: of.uploads,
        errors: of.errors,
    };
    gateway.upstream.states().map(instance).collect()
}

fn limits(gateway: &Gateway) -> Vec<Limit> {
    let limit = |pool: limits::pool::PoolStatus| Limit {
        key: pool.key,
        slots: pool.slots,
        used: pool.used,
        waiting: pool.waiting,
        refused: pool.refused,
    };
    gateway.pools().into_iter().map(limit).collect()
}
