//! From a request to its story.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::Gateway;
use crate::access::Access;
use crate::client::Client;
use crate::forgotten::{self, Changed};
use crate::forward;
use crate::http::{Body, Problem, check_head};
use crate::pull;
use crate::push;
use crate::registry::Route;
use crate::request_body::RequestBody;

/// Answers one request.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    request: Request<RequestBody>,
    client: &Client,
) -> Response<Body> {
    let (request, body) = request.into_parts();
    let received = body.received();
    let body = Body::new(body);
    let (method, path) = (request.method.clone(), loggable(request.uri.path()).to_owned());
    let route = Route::parse(&request.method, request.uri.path());
    let access = Access::new(gateway, client, &method, &path, route.name(), received);
    let changed = forgotten::changed(&request.method, request.uri.path());
    let mut unheard = Unheard { gateway, changed };
    let unread_manifest = route == Route::Forward && method == Method::PUT && path.contains("/manifests/");
    let head_max = usize::try_from(gateway.settings.limits.header_bytes.as_u64()).unwrap_or(usize::MAX);
    let response = match (check_head(&request, head_max), route) {
        (Err(problem), _) => problem.response(),
        (Ok(()), _) if request.method == Method::CONNECT => not_a_proxy(),
        (Ok(()), Route::Blob { repository, digest }) => {
            pull::pull(gateway, &request, &repository, digest, client).await
        }
        (Ok(()), Route::PutManifest { repository }) => {
            push::manifest(gateway, request, body, repository, client.clone()).await
        }
        (Ok(()), Route::Upload) => push::upload(gateway, &request, body, client).await,
        (Ok(()), Route::Forward) => {
            let bound = gateway.settings.timeouts.registry_answer;
            forward::forward(gateway, &request, body, client, bound).await
        }
    };
    if came_to_nothing(response.status()) {
        unheard.changed = None;
    }
    // Before the client hears of it: it may look at once.
    drop(unheard);
    let response = bodiless(&method, response);
    if unread_manifest && response.status() == StatusCode::CREATED {
        tracing::error!(
            path,
            "a manifest under a name that is not understood here: its blobs are not copied to the other zones"
        );
        gateway.metrics.push_not_queued();
    }
    access.answered(response)
}

/// What a request changes at the registry; forgotten here when dropped, unless it came to nothing. Where the client
/// left before the answer, nobody knows.
struct Unheard<'a> {
    gateway: &'a Gateway,
    changed: Option<Changed>,
}

/// Whether an answer says that its request changed nothing. After one of 5xx, of the registry, of a proxy before it
/// or of the gateway, nobody knows.
fn came_to_nothing(status: StatusCode) -> bool {
    status.is_redirection() || status.is_client_error()
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(changed) = self.changed.take() {
            match changed {
                Changed::Name(name) => self.gateway.permissions.forget(&name),
                Changed::All => self.gateway.permissions.forget_all(),
            }
        }
    }
}

/// The answer where a limit has no room for a request.
pub(crate) fn overloaded(
    gateway: &Arc<Gateway>,
    request: &Request<RequestBody>,
    client: &Client,
    problem: &Problem,
) -> Response<Body> {
    let (method, path) = (request.method(), loggable(request.uri().path()));
    let access = Access::new(gateway, client, method, path, "overload", request.body().received());
    access.answered(bodiless(method, problem.response()))
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
    fn a_change_came_to_nothing_only_where_the_answer_says_so() {
        for (status, expected) in
            [(200, false), (202, false), (301, true), (401, true), (404, true), (500, false)]
        {
            assert_eq!(
                came_to_nothing(StatusCode::from_u16(status).expect("a status")),
                expected,
                "{status}"
            );
        }
        for unknown in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
        {
            assert!(!came_to_nothing(unknown), "{unknown}");
        }
    }

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
