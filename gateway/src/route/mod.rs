//! Routes each request to its handler.

mod access;

use std::sync::Arc;

use backends::{RequestId, in_current_request};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tracing::{Instrument as _, Span};

use crate::Gateway;
use crate::forward;
use crate::offline;
use crate::otlp;
use crate::permissions::{self, Changed};
use crate::pull;
use crate::push;
use crate::request::Client;
use crate::request::RequestBody;
use crate::route::access::{Access, RequestTrace};
use crate::spans;
use gateway_http::{Body, Problem, check_head};
use registry::{Route, loggable};

/// Answers one request, with its id in scope and in a span of its own.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    request: Request<RequestBody>,
    client: &Client,
) -> Response<Body> {
    let (mut request, body) = request.into_parts();
    let limits = &gateway.settings.limits;
    let head_max = usize::try_from(limits.header_bytes.as_u64()).unwrap_or(usize::MAX);
    let head = check_head(&request, head_max, limits.headers);
    let id = RequestId::of_request(&mut request.headers);
    let route = Route::parse(&request.method, request.uri.path());
    let repository = spans::repository(&route, request.uri.path());
    let span = spans::request(&id, &route, repository.as_deref());
    let id = otlp::join_trace(&span, id, &mut request.headers);
    let watched = gateway.live.begin(&route);
    let trace = RequestTrace { id: id.clone(), span: span.clone(), watched };
    let name = route.name(&request.method, request.uri.path());
    let access =
        Access::new(gateway, client, trace, &request, (name, repository.as_deref()), body.received());
    let answered = dispatch(gateway, head, request, Body::new(body), route, client);
    access.answered(id.scope(answered.instrument(span)).await)
}

/// Checks the head of the request, and passes the request to the handler of its route.
async fn dispatch(
    gateway: &Arc<Gateway>,
    head: Result<(), Problem>,
    request: Parts,
    body: Body,
    route: Route,
    client: &Client,
) -> Response<Body> {
    let method = request.method.clone();
    let changed = permissions::changed(&request.method, request.uri.path());
    let is_manifest = request.uri.path().contains("/manifests/");
    let unread_manifest = (route == Route::Forward && method == Method::PUT && is_manifest)
        .then(|| loggable(request.uri.path()).to_owned());
    let response = match (head, route) {
        (Err(problem), _) => problem.response(),
        (Ok(()), _) if request.method == Method::CONNECT => not_a_proxy(),
        (Ok(()), Route::Blob { repository, digest }) => {
            pull::pull(gateway, &request, &repository, digest, client).await
        }
        (Ok(()), Route::PutManifest { repository }) => {
            push::manifest(gateway, request, body, repository, client.clone()).await
        }
        (Ok(()), Route::Upload) if changed.is_none() => push::upload(gateway, &request, body, client).await,
        // A path that looks like an upload may be the path of another change too.
        (Ok(()), Route::Upload | Route::Forward) => match changed {
            Some(changed) => change(gateway, request, body, changed, client.clone()).await,
            None => offline::read(gateway, &request, body, client).await,
        },
    };
    let response = bodiless(&method, response);
    if let Some(path) = unread_manifest.filter(|_| response.status() == StatusCode::CREATED) {
        tracing::error!(
            path,
            "a manifest under a name that is not understood here: its blobs are not copied to the other zones"
        );
        gateway.metrics.push_not_queued();
    }
    response
}

/// Forwards a request that changes something at the registry. Afterwards, drops the permissions that depend
/// on what was changed, unless the request certainly changed nothing.
///
/// Runs in a task of its own. If the client leaves, the gateway still learns how the change ended. The task
/// holds the slot and the memory of `client`.
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
        let ended = answer.as_ref().map(Response::status);
        if may_have_changed(&changed, ended) {
            // Before the client gets the answer, because it may read again at once.
            held.permissions.forget_changed(&changed);
        }
        // A result that is not known may be everybody's doing, and must not take the memory that an outage needs.
        if let Some(offline) = held.offline.as_ref().filter(|_| ended.is_ok_and(|status| status.is_success()))
        {
            offline.forget_changed(&changed);
        }
        match answer {
            Ok(answer) => forward::relay(&held, answer, &client),
            Err(problem) => forward::refused(&request, &problem),
        }
    };
    gateway.pushes.spawn(in_current_request(task)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change's task died");
        Problem::gateway("the gateway failed while the registry made a change").response()
    })
}

/// Whether a request to the registry may have changed something, given how it ended. After a 5xx this is
/// unknown. The registry may also have carried out a request whose body broke off or was too slow. That case
/// counts only if the changed names are known: anybody can break off a body, and could otherwise have all
/// permissions dropped.
fn may_have_changed(changed: &Changed, ended: Result<StatusCode, &Problem>) -> bool {
    let by_status = |status: StatusCode| status.is_success() || status.is_server_error();
    match (ended, changed) {
        (Ok(status), _) => by_status(status),
        (Err(problem), _) if problem.unsent => false,
        (Err(_), Changed::Names(_)) => true,
        (Err(problem), Changed::All) => by_status(problem.status),
    }
}

/// The answer if a limit has no room for a request.
pub(crate) fn overloaded(
    gateway: &Arc<Gateway>,
    request: Request<RequestBody>,
    client: &Client,
    problem: &Problem,
) -> Response<Body> {
    let (mut request, body) = request.into_parts();
    let watched = gateway.live.begin(&Route::Forward);
    let trace = RequestTrace { id: RequestId::of_request(&mut request.headers), span: Span::none(), watched };
    let access = Access::new(gateway, client, trace, &request, ("overload", None), body.received());
    access.answered(bodiless(&request.method, problem.response()))
}

/// Removes the body of an answer to `HEAD`. Over HTTP/2 no other code does so.
fn bodiless(method: &Method, response: Response<Body>) -> Response<Body> {
    match *method == Method::HEAD {
        true => response.map(|_| Body::empty()),
        false => response,
    }
}

fn not_a_proxy() -> Response<Body> {
    let why = "the gateway is not a forward proxy";
    let problem =
        Problem::client(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why, "connect to it as to a registry");
    problem.response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_request_may_have_changed_something() {
        for (status, expected) in [(202, true), (302, false), (404, false), (502, true), (504, true)] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(may_have_changed(&Changed::All, Ok(status)), expected, "{status}");
        }
        let broken =
            Problem::client(StatusCode::BAD_REQUEST, "SIZE_INVALID", "the body broke off", "send it again");
        let names = Changed::Names(vec!["o/a".into()]);
        assert!(may_have_changed(&names, Err(&broken)), "the head of the request was sent");
        assert!(!may_have_changed(&Changed::All, Err(&broken)), "anybody can break off a body");
        let unsent = Problem { unsent: true, ..broken };
        assert!(!may_have_changed(&names, Err(&unsent)));
        let lost = Problem::registry(StatusCode::GATEWAY_TIMEOUT, "no answer");
        assert!(may_have_changed(&Changed::All, Err(&lost)));
    }
}
