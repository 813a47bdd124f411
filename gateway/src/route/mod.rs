//! From a request to its story.

mod access;

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

use crate::Gateway;
use crate::forward;
use crate::permissions::{self, Changed};
use crate::pull;
use crate::push;
use crate::request::Client;
use crate::request::RequestBody;
use crate::route::access::Access;
use gateway_http::{Body, Problem, check_head};
use registry::upstream::Answer;
use registry::{Route, loggable};

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
    let changed = permissions::changed(&request.method, request.uri.path());
    let unread_manifest =
        route == Route::Forward && method == Method::PUT && request.uri.path().contains("/manifests/");
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
        (Ok(()), Route::Upload) if changed.is_none() => push::upload(gateway, &request, body, client).await,
        // A path that looks like an upload's may change something else too.
        (Ok(()), Route::Upload | Route::Forward) => match changed {
            Some(changed) => change(gateway, request, body, changed, client.clone()).await,
            None => {
                let bound = gateway.settings.timeouts.registry_answer;
                forward::forward(gateway, &request, body, client, bound).await
            }
        },
    };
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

/// Forwards what changes something at the registry, and forgets what was remembered of it, unless it came to
/// nothing.
///
/// In a task of its own: a client that leaves does not keep the gateway from hearing what became of it. The
/// task holds what `client` holds.
async fn change(
    gateway: &Arc<Gateway>,
    request: Parts,
    body: Body,
    changed: Changed,
    client: Client,
) -> Response<Body> {
    let held = Arc::clone(gateway);
    let task = async move {
        let bound = held.settings.timeouts.registry_answer;
        let answer = forward::answered(&held, &request, body, &client, bound).await;
        let sent = !answer.as_ref().is_err_and(Problem::is_overload);
        let status = answer.as_ref().map_or_else(|problem| problem.status, Answer::status);
        let is_credential =
            |name: &_| held.settings.forward_headers.passes(name) && held.registry.may_judge(name);
        if sent && may_have_changed(&changed, status, request.headers.keys().any(is_credential)) {
            // Before the client hears of it: it may look at once.
            held.permissions.forget_changed(&changed);
        }
        match answer {
            Ok(answer) => forward::relay(&held, answer),
            Err(problem) => forward::refused(&request, &problem),
        }
    };
    gateway.pushes.spawn(task).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change's task died");
        Problem::gateway("the gateway failed while the registry made a change").response()
    })
}

/// Whether a request with this answer may have changed something. After a 5xx nobody knows. A request without
/// credentials then counts only for the repositories that it names: otherwise anybody could empty the whole
/// memory while the registry is down.
fn may_have_changed(changed: &Changed, status: StatusCode, has_credentials: bool) -> bool {
    let is_bounded = matches!(changed, Changed::Names(_));
    status.is_success() || status.is_server_error() && (is_bounded || has_credentials)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_answered_may_have_changed_what_it_names() {
        let name = Changed::Names(vec!["o/a".to_owned()]);
        for (status, named, anyone, known) in [
            (202, true, true, true),
            (302, false, false, false),
            (404, false, false, false),
            (504, true, false, true),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(may_have_changed(&name, status, false), named, "{status}");
            assert_eq!(may_have_changed(&name, status, true), named, "{status}");
            assert_eq!(may_have_changed(&Changed::All, status, false), anyone, "{status}");
            assert_eq!(may_have_changed(&Changed::All, status, true), known, "{status}");
        }
    }
}
