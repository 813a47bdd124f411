//! From a request to its story.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::Gateway;
use crate::forgotten;
use crate::forward;
use crate::http::{Body, Problem};
use crate::pull;
use crate::push;
use crate::registry::Route;

/// Answers one request.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
    client: IpAddr,
) -> Response<Body> {
    let (request, body) = request.into_parts();
    let body = Body::incoming(body);
    let (method, path) = (request.method.clone(), loggable(request.uri.path()).to_owned());
    let route = Route::parse(&request.method, request.uri.path());
    let name = route.name();
    let changed = forgotten::changed(&request.method, request.uri.path());
    let unread_manifest = route == Route::Forward && method == Method::PUT && path.contains("/manifests/");
    let response = match route {
        _ if request.method == Method::CONNECT => not_a_proxy(),
        Route::Blob { repository, digest } => {
            pull::pull(gateway, &request, &repository, digest, client).await
        }
        Route::PutManifest { repository } => push::manifest(gateway, request, body, repository, client).await,
        Route::Upload => push::upload(gateway, &request, body, client).await,
        Route::Forward => {
            let bound = gateway.settings.timeouts.registry_answer;
            forward::forward(gateway, &request, body, client, bound).await
        }
    };
    // Before the client hears of it: it may look at once.
    if let Some(changed) = changed.filter(|_| response.status().is_success()) {
        gateway.permissions.forget(&changed);
    }
    let response = bodiless(&method, response);
    let status = response.status().as_u16();
    if unread_manifest && response.status() == StatusCode::CREATED {
        tracing::error!(
            path,
            "a manifest under a name that is not understood here: its blobs are not copied to the other zones"
        );
        gateway.metrics.push_not_queued();
    }
    gateway.metrics.answered(name, status);
    let cache = response.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or("-");
    tracing::info!(target: "access", %client, %method, path, status, cache);
    response
}

/// The answer while `limits.requests` are under way.
pub(crate) fn overloaded(gateway: &Gateway, method: &Method, client: IpAddr) -> Response<Body> {
    let problem = Problem::overload("limits.requests are under way already");
    gateway.metrics.answered("overload", problem.status.as_u16());
    tracing::warn!(%client, problem = problem.message, "refused");
    bodiless(method, problem.response())
}

/// An answer to `HEAD` keeps its headers only: over HTTP/2 nobody else takes its body away.
fn bodiless(method: &Method, response: Response<Body>) -> Response<Body> {
    match *method == Method::HEAD {
        true => response.map(|_| Body::empty()),
        false => response,
    }
}

fn not_a_proxy() -> Response<Body> {
    let why = "the gateway is no forward proxy";
    let problem =
        Problem::client(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why, "dial it as a registry");
    problem.response()
}

/// A path as it may stand in a log: `_storage_proxy` paths hold a token, however they are spelled, and
/// queries (never shown) may hold credentials.
pub(crate) fn loggable(path: &str) -> &str {
    const STORAGE_PROXY: &str = "/_storage_proxy/";
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match decoded.contains("/_storage_proxy") {
        true => STORAGE_PROXY,
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_paths_are_not_logged() {
        for path in
            ["/_storage_proxy/t/x", "/%5Fstorage_proxy/t/x", "//_storage_proxy/t", "/%2F_storage%5fproxy/t"]
        {
            assert_eq!(loggable(path), "/_storage_proxy/", "{path}");
        }
        assert_eq!(loggable("/v2/a/blobs/sha256%3Aab"), "/v2/a/blobs/sha256%3Aab");
    }
}
