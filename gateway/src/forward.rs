//! Forwards requests that the gateway does not interpret to the registry, unchanged.

use std::time::Duration;

use backends::{TRACE_PARENT, X_REQUEST_ID, name_request};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Response, StatusCode};

use crate::Gateway;
use crate::metrics::Source;
use crate::request::Client;
use gateway_http::{Body, Problem, Via, end_to_end, forwarded_request};
use registry::upstream::{Answer, Head, InstanceId, Order};
use registry::{loggable, unescaped};

/// Sends a request with its streaming body to the registry and returns the registry's answer as it is. `bound` limits the
/// wait for the answer, from the last byte of the body on.
///
/// # Errors
/// No instance of the registry answered, or the request cannot be forwarded.
pub(crate) async fn answered(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
    bound: Duration,
) -> Result<Answer, Problem> {
    let order = gateway.upstream.order();
    let answer = ask(gateway, &order, request, path(request)?, body, client, bound).await;
    answer.map(|(answer, _)| answer)
}

/// The answer to the client if the registry gave none.
pub(crate) fn refused(request: &Parts, problem: &Problem) -> Response<Body> {
    if !problem.is_overload() {
        tracing::warn!(method = %request.method, path = loggable(request.uri.path()), problem = problem.message, "not forwarded");
    }
    problem.response()
}

/// Forwards a request under this path. Returns the registry's answer as it is, and the instance that gave it.
pub(crate) async fn ask(
    gateway: &Gateway,
    order: &Order,
    request: &Parts,
    path: &PathAndQuery,
    body: Body,
    client: &Client,
    bound: Duration,
) -> Result<(Answer, InstanceId), Problem> {
    let head = Head { method: request.method.clone(), path, headers: headers(gateway, request, client) };
    gateway.upstream.send(client.identity, order, head, body, bound).await
}

/// The path and query exactly as they were received.
pub(crate) fn path(request: &Parts) -> Result<&PathAndQuery, Problem> {
    request.uri.path_and_query().filter(|path| path.as_str().starts_with('/')).ok_or_else(|| {
        Problem::client(
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
            "the request target is not a path",
            "send a path that starts with /",
        )
    })
}

/// The request's headers as the registry gets them. `Host` is always the registry's own name, whatever the
/// client sent, so that a client cannot make a proxy in between route the request elsewhere.
pub(crate) fn headers(gateway: &Gateway, request: &Parts, client: &Client) -> HeaderMap {
    headers_in(gateway, request, client, |_| true)
}

/// All of [`headers`] that the registry may judge, and perhaps others. A hit needs no copy of the rest.
pub(crate) fn judged(gateway: &Gateway, request: &Parts, client: &Client) -> HeaderMap {
    headers_in(gateway, request, client, |name| *name == AUTHORIZATION || gateway.registry.may_judge(name))
}

/// Whether the registry may judge nothing of these headers but `Authorization`. The client's address is the gateway's own
/// statement, and a registry that verifies tokens does not judge it.
pub(crate) fn only_authorization_is_judged(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let is_plain = |name: &HeaderName| *name == AUTHORIZATION || name == "x-forwarded-for";
    headers.keys().all(|name| is_plain(name) || !gateway.registry.may_judge(name))
}

fn headers_in(
    gateway: &Gateway,
    request: &Parts,
    client: &Client,
    part: impl Fn(&HeaderName) -> bool,
) -> HeaderMap {
    // On every path that may carry blobs, the encodings of the client are kept.
    let identity = part(&ACCEPT_ENCODING) && {
        let path = unescaped(request.uri.path());
        path.contains("/blobs/") || path.starts_with("/_storage_proxy/")
    };
    let allowed = &gateway.settings.forward_headers;
    let (host, dialled) = (gateway.upstream.host(), client.dialled.header());
    let via = Via { host, gateway: dialled, client: client.address, allowed };
    let mut headers = forwarded_request(&request.headers, &via, identity, &part);
    // The client's `Connection` header may name the headers with the request id as hop-by-hop. They are sent
    // all the same.
    if part(&X_REQUEST_ID) || part(&TRACE_PARENT) {
        name_request(&mut headers);
    }
    headers
}

/// The registry's answer as this client gets it.
pub(crate) fn relay(gateway: &Gateway, answer: Answer, client: &Client) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = end_to_end(&parts.headers);
    gateway.names.rewrite(response.headers_mut(), &client.dialled);
    Source::REGISTRY.of(response)
}
