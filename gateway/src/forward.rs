//! What the gateway does not understand goes to the registry untouched.

use std::time::Duration;

use backends::name_request;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, StatusCode};

use crate::Gateway;
use crate::request::Client;
use gateway_http::{Body, Problem, Via, end_to_end, forwarded_request};
use registry::upstream::{Answer, Head, InstanceId, Order};
use registry::{loggable, unescaped};

/// Forwards a request and its streaming body; `bound` is for the answer, from the body's last byte.
pub(crate) async fn forward(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
    bound: Duration,
) -> Response<Body> {
    match answered(gateway, request, body, client, bound).await {
        Ok(answer) => relay(gateway, answer),
        Err(problem) => refused(request, &problem),
    }
}

/// The registry's answer to a request as it is.
///
/// # Errors
/// There is none.
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

/// The client's answer where the registry gave none.
pub(crate) fn refused(request: &Parts, problem: &Problem) -> Response<Body> {
    if !problem.is_overload() {
        tracing::warn!(method = %request.method, path = loggable(request.uri.path()), problem = problem.message, "not forwarded");
    }
    problem.response()
}

/// Forwards a request under this path and gives the registry's answer as it is, and who gave it.
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
            "the request target is no path",
            "send a path that starts with /",
        )
    })
}

/// The request's headers as the registry is to see them. Its `Host` is the registry's own name
/// whatever the client says, so that no proxy in between can be led elsewhere.
pub(crate) fn headers(gateway: &Gateway, request: &Parts, client: &Client) -> HeaderMap {
    // Wherever blobs may flow, they flow as they are.
    let path = unescaped(request.uri.path());
    let identity = path.contains("/blobs/") || path.starts_with("/_storage_proxy/");
    let allowed = &gateway.settings.forward_headers;
    let client = client.address;
    let via = Via { host: gateway.upstream.host(), gateway: &gateway.hostname, client, allowed };
    let mut headers = forwarded_request(&request.headers, &via, identity);
    // `Connection` may have named them as this hop's own, but all who take part are told.
    name_request(&mut headers);
    headers
}

/// The registry's answer as the client is to see it.
pub(crate) fn relay(gateway: &Gateway, answer: Answer) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = end_to_end(&parts.headers);
    gateway.names.rewrite(response.headers_mut());
    response
}
