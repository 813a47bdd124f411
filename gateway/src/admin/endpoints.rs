//! Calls what a route does.

use http::request::Parts;
use hyper::body::Incoming;

use super::answer::Answer;
use super::routes::{Endpoint, Route};
use super::{
    body, cache, cache_blobs, cache_contents, cache_import, certificates, config_diff, live, openapi, probes,
    queue, status, traffic, zones,
};
use crate::Gateway;

/// Answers a request that may be answered. `parameter` is the segment of the path that stands for `{name}`.
pub(super) async fn answer(
    gateway: &Gateway,
    route: &Route,
    parameter: String,
    request: &Parts,
    body: Incoming,
    is_draining: bool,
) -> Answer {
    let headers = &request.headers;
    match route.endpoint {
        Endpoint::Health => probes::health(),
        Endpoint::Ready => probes::ready(gateway, is_draining),
        Endpoint::Metrics => Ok(probes::metrics(gateway, headers).await),
        Endpoint::OpenApi => openapi::openapi(),
        Endpoint::Status => status::status(gateway).await,
        Endpoint::Cache => cache::cache(gateway),
        Endpoint::CacheBlobs => cache_blobs::cache_blobs(gateway).await,
        Endpoint::CacheContents => cache_contents::list(gateway, request.uri.query().unwrap_or_default()),
        Endpoint::EvictBlobs => cache_contents::evict(gateway, &body::receive(headers, body).await?),
        Endpoint::VerifyBlob => cache_contents::verify(gateway, body::receive(headers, body).await?).await,
        Endpoint::ImportBlob => cache_import::blob(gateway, &parameter, headers, body).await,
        Endpoint::ImportManifest => {
            cache_import::manifest(gateway, request.uri.query().unwrap_or_default(), body).await
        }
        Endpoint::Live => live::subscribe(gateway),
        Endpoint::Certificates => certificates::certificates(gateway),
        Endpoint::ConfigDiff => config_diff::config_diff(gateway).await,
        Endpoint::Traffic => traffic::traffic(gateway),
        Endpoint::Zones => zones::zones(gateway).await,
        Endpoint::Drain => zones::drain(gateway, parameter, true).await,
        Endpoint::Undrain => zones::drain(gateway, parameter, false).await,
        Endpoint::Queue => queue::queues(gateway).await,
        Endpoint::Jobs => queue::jobs(gateway, request.uri.query().unwrap_or_default()).await,
        Endpoint::JobsOfBlob => queue::jobs_of(gateway, &parameter).await,
        Endpoint::AddJobs => queue::add(gateway, body::receive(headers, body).await?).await,
        Endpoint::RetryJobs => queue::retry(gateway, body::receive(headers, body).await?).await,
        Endpoint::ParkJobs => queue::park(gateway, body::receive(headers, body).await?).await,
        Endpoint::Sweep => queue::sweep(gateway),
        Endpoint::BeginSweep => queue::begin_sweep(gateway),
    }
}
