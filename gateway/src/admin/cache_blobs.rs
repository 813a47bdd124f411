//! The blobs of the cache that stand out, in the admin API.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use operations::reports::CacheBlobsReport;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answer::{Answer, json};
use super::problem::Problem;
use crate::Gateway;

/// The blobs in each list.
const BLOBS_SHOWN: usize = 8;

/// For this time a census is answered again, because it walks over all blobs.
const CENSUS_KEPT: Duration = Duration::from_secs(5);

/// The latest census. Callers wait here for one another.
#[derive(Debug, Default)]
pub(crate) struct LatestCensus(Mutex<Option<(Instant, CacheBlobsReport)>>);

/// The largest and the most used blobs.
pub(super) async fn cache_blobs(gateway: &Gateway) -> Answer {
    let mut latest = gateway.census.0.lock().await;
    if let Some((at, report)) = &*latest
        && at.elapsed() < CENSUS_KEPT
    {
        return json(report);
    }
    let cache = Arc::clone(&gateway.cache);
    let census = tokio::task::spawn_blocking(move || cache.census(BLOBS_SHOWN)).await;
    let census = census.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", format!("the census failed: {error}"))
    })?;
    let (_, report) = latest.insert((Instant::now(), CacheBlobsReport::new(&census)));
    json(report)
}
