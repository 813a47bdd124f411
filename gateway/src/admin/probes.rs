//! Health probes and metrics, which are at the root.

use gateway_http::Body;
use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};

use super::answer::{Answer, respond, text};
use crate::Gateway;
use crate::metrics::{Exposition, Scrape};

/// Whether the process runs.
pub(super) fn health() -> Answer {
    text(StatusCode::OK, "ok\n")
}

/// Whether clients should be sent here. Not from SIGTERM on.
pub(super) fn ready(gateway: &Gateway, is_draining: bool) -> Answer {
    if is_draining {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    // The gateway is still ready, because pulls and pushes into the registry's own store continue.
    match gateway.metrics.journal_refuses() {
        true => text(
            StatusCode::OK,
            "ok, but the journal takes no jobs: pushes are not copied to the other zones\n",
        ),
        false => text(StatusCode::OK, "ok\n"),
    }
}

/// All metrics, in the form that the scraper prefers.
pub(super) async fn metrics(gateway: &Gateway, headers: &HeaderMap) -> Response<Body> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let form = Exposition::wanted(accept);
    respond(StatusCode::OK, form.content_type(), form.of(rendered(gateway).await))
}

async fn rendered(gateway: &Gateway) -> String {
    let cache = gateway.cache.status();
    gateway.metrics.render(Scrape {
        token_keys: gateway.tokens.as_ref().map(|tokens| tokens.keys()),
        cache: [
            ("cache_blobs", "Blobs in the cache", cache.blobs),
            ("cache_bytes", "Bytes of the cache in use", cache.bytes),
            ("cache_capacity_bytes", "Bytes the cache may use", cache.capacity),
            ("cache_fills", "Blobs on their way into the cache", cache.fills as u64),
            ("cache_pinned_bytes", "Bytes of pinned blobs in the cache", cache.pinned),
            ("cache_pinned_max_bytes", "The most bytes that pinned blobs may have", cache.pinned_max),
        ],
        pins: gateway.pins.status(),
        certificates: gateway.server_tls.status(),
        memory: gateway.memory.status(),
        pools: gateway.pools(),
        instances: gateway.upstream.states().collect(),
        unserved: gateway.upstream.unserved(),
        zones: gateway.router.snapshot(),
        // The journal is sampled at intervals, and not read at each scrape.
        copies: gateway.sampler.latest().await,
    })
}
