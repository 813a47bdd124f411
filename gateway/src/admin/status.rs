//! The status of the gateway in the admin API.

use std::time::{Duration, SystemTime};

use registry::upstream::InstanceState;
use replication::LaneStatus;

use super::answer::{Answer, json};
use crate::Gateway;

/// The timeout for reading the journal.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway as a whole: its zones, the registry, the cache and the copies.
pub(super) async fn status(gateway: &Gateway) -> Answer {
    let cache = gateway.cache.status();
    let now = SystemTime::now();
    let lanes = lanes(gateway).await;
    let lanes: Option<Vec<_>> = lanes.map(|lanes| lanes.iter().map(|lane| lane_status(lane, now)).collect());
    let zones: Vec<&str> = gateway.router.zones().map(|zone| &*zone.name).collect();
    let unusable: serde_json::Map<_, _> = gateway
        .router
        .zones()
        .filter_map(|zone| Some((zone.name.to_string(), zone.unusable.as_deref()?.into())))
        .collect();
    let instances: serde_json::Map<_, _> = gateway
        .upstream
        .states()
        .map(|instance| {
            let InstanceState { name, zone, state, why, uploads, .. } = instance;
            let shown = serde_json::json!({"zone": &*zone, "state": state, "why": why, "uploads": uploads});
            (name.to_string(), shown)
        })
        .collect();
    let targets: Vec<&str> = gateway.targets.iter().map(|zone| &**zone).collect();
    let status = serde_json::json!({
        "zones": zones,
        "unusable": unusable,
        "targets": targets,
        "registry": instances,
        "cache": {"blobs": cache.blobs, "bytes": cache.bytes, "capacity": cache.capacity, "fills": cache.fills},
        "copies": lanes,
    });
    json(&status)
}

/// The status of the lanes. `None` if the journal cannot be read; the log says why.
pub(super) async fn lanes(gateway: &Gateway) -> Option<Vec<LaneStatus>> {
    match tokio::time::timeout(JOURNAL_TIMEOUT, gateway.fanout.status()).await {
        Ok(status) => status.inspect_err(|error| tracing::error!(%error, "the journal cannot be read")).ok(),
        Err(_) => {
            tracing::error!("the journal cannot be read in time");
            None
        }
    }
}

fn lane_status(lane: &LaneStatus, now: SystemTime) -> serde_json::Value {
    let age = lane.oldest.map(|since| now.duration_since(since).unwrap_or_default().as_secs());
    serde_json::json!({
        "zone": &*lane.zone,
        "configured": lane.configured,
        "unusable": lane.unusable.as_deref(),
        "waiting": lane.waiting,
        "waiting_bytes": lane.bytes,
        "oldest_seconds": age,
        "active": lane.active,
        "failing": lane.failing,
        "attempts": lane.attempts,
        "last_error": lane.last_error,
        "parked": lane.parked,
        "parked_bytes": lane.parked_bytes,
        "copied": lane.copied,
        "copied_bytes": lane.copied_bytes,
        "replaced": lane.replaced,
        "already_there": lane.already_there,
        "withdrawn": lane.withdrawn,
        "failures": lane.failures,
    })
}
