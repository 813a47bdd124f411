//! The zones in the admin API.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use operations::zones::{DrainReport, ZonesReport};
use replication::LaneStatus;

use super::answer::{Answer, json};
use super::problem::Problem;
use super::status::lanes;
use crate::Gateway;
use crate::drains::DrainError;

/// The state of every zone.
pub(super) async fn zones(gateway: &Gateway) -> Answer {
    let now = SystemTime::now();
    let lanes = lanes(gateway).await;
    let lag = |lane: &LaneStatus| lane.oldest.map(|since| now.duration_since(since).unwrap_or_default());
    let drained = |zone: &str| gateway.drains.is_drained(zone);
    json(&ZonesReport::new(&gateway.router.snapshot(), lanes.as_deref(), lag, drained))
}

/// Drains or undrains a zone.
pub(super) async fn drain(gateway: &Gateway, zone: String, drain: bool) -> Answer {
    let drains = Arc::clone(&gateway.drains);
    let report = DrainReport { zone: zone.clone(), drained: drain };
    // A drain waits for the disk.
    let done =
        tokio::task::spawn_blocking(move || if drain { drains.drain(&zone) } else { drains.undrain(&zone) });
    match done.await {
        Ok(Ok(())) => json(&report),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => {
            let detail = format!("the command failed: {error}");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail))
        }
    }
}

impl From<DrainError> for Problem {
    fn from(error: DrainError) -> Self {
        let detail = error.to_string();
        match error {
            DrainError::Unknown { .. } => Self::unknown_zone(detail),
            DrainError::Last(_) => Self::conflict("last_zone", detail),
            DrainError::ByConfiguration(_) | DrainError::StillByConfiguration(_) => {
                Self::conflict("drained_by_configuration", detail)
            }
            DrainError::NotWritten { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not_written", detail)
            }
        }
    }
}
