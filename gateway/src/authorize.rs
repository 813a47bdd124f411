//! Decides who may read. The registry decides: in the token that it signed, or in its answer, which is remembered for a
//! short time.

use std::time::SystemTime;

use gateway_http::Problem;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use registry::bearer::bearer_token;
use registry::upstream::{Answer, Head, Purpose};
use registry::{is_plain_query, token_life};
use tokio::time::Instant;
use zone_router::Blob;

use crate::Gateway;
use crate::forward;
use crate::offline::{self, Allowed};
use crate::permissions::{Granted, Question};
use crate::request::Client;

/// The registry's decision about one read.
pub(crate) enum Verdict {
    /// The client may read.
    Yes(Granted),
    /// The registry refused: its answer to `HEAD`.
    No(Box<Answer>),
    /// The registry is away, and let no such client read this repository lately.
    NotLately,
}

/// Asks whether this client may read this blob of this repository.
///
/// # Errors
/// The registry gave no answer: 502 or 504.
pub(crate) async fn may_read(
    gateway: &Gateway,
    request: &Parts,
    repository: &str,
    blob: &Blob,
    client: &Client,
) -> Result<Verdict, Problem> {
    // The headers as the registry gets them. A header that the registry does not get cannot have influenced
    // its decision.
    let judged = unconditional(forward::judged(gateway, request, client));
    let target = forward::path(request)?;
    let may_judge = |name: &_| gateway.registry.may_judge(name);
    let asked = Question::new(&gateway.permissions, &judged, target, may_judge, repository, blob.digest);
    if let Some(yes) = asked.as_ref().and_then(|asked| gateway.permissions.remembered(asked)) {
        gateway.metrics.permission_decided("remembered");
        return Ok(Verdict::Yes(yes));
    }
    if let Some(yes) = decided_here(gateway, &judged, target, repository, blob) {
        gateway.metrics.permission_decided("token");
        return Ok(Verdict::Yes(yes));
    }
    let headers = unconditional(forward::headers(gateway, request, client));
    // Measured before the question: a permission lasts no longer than the tokens did at that time.
    let (when, now) = (Instant::now(), SystemTime::now());
    let answer = ask_registry(gateway, request, &headers, blob, client).await;
    if offline::fails(&answer)
        && is_plain_query(target.query())
        && let Some(allowed) = offline::permitted(gateway, &headers, repository, blob.digest).await
    {
        gateway.metrics.permission_decided("offline");
        return Ok(match allowed {
            Allowed::Yes(granted) => Verdict::Yes(granted),
            Allowed::No => Verdict::NotLately,
        });
    }
    let answer = answer.inspect_err(|_| gateway.metrics.permission_decided("unanswered"))?;
    if !gateway.registry.permits(answer.status(), answer.headers(), &blob.digest) {
        gateway.metrics.permission_decided("no");
        refused(gateway, repository, blob, answer.status());
        return Ok(Verdict::No(Box::new(answer)));
    }
    gateway.metrics.permission_decided("yes");
    let is_redirect = answer.status() != StatusCode::OK;
    let size = gateway_http::content_length(answer.headers())
        .filter(|size| !is_redirect && blob.digest.may_have(*size));
    let granted = gateway.permissions.granted(size, answer.headers(), is_redirect);
    if target.query().is_none() {
        gateway.permissions.confirm(repository, [(blob.digest, size)], when);
        offline::learn_links(gateway, repository, vec![blob.digest], when);
    }
    if let Some(asked) = asked {
        let life = token_life::shortest(&headers, target.query(), may_judge, now);
        gateway.permissions.remember(asked, granted.clone(), life, when);
    }
    Ok(Verdict::Yes(granted))
}

/// A plain yes without the registry: the request's only credential is a token of the registry that permits to read this
/// repository, and the registry confirmed lately that the blob is in it. `None` is no refusal.
fn decided_here(
    gateway: &Gateway,
    headers: &HeaderMap,
    target: &PathAndQuery,
    repository: &str,
    blob: &Blob,
) -> Option<Granted> {
    let tokens = gateway.tokens.as_ref()?;
    if !forward::only_authorization_is_judged(gateway, headers) || target.query().is_some() {
        return None;
    }
    let token = bearer_token(headers)?;
    let granted = gateway.permissions.linked(repository, &blob.digest)?;
    let verified =
        tokens.verified(token).inspect_err(|why| tracing::debug!(%why, "a token is left to the registry"));
    verified.ok()?.grants().may_pull(repository).then_some(granted)
}

/// Sends `HEAD` to the registry with the client's own headers.
///
/// At the first pull of a proxy-cache organisation, the registry needs minutes to answer. So the short
/// timeout applies only if the cache or a zone could serve the blob.
async fn ask_registry(
    gateway: &Gateway,
    request: &Parts,
    headers: &HeaderMap,
    blob: &Blob,
    client: &Client,
) -> Result<Answer, Problem> {
    let path = forward::path(request)?;
    let timeouts = &gateway.settings.timeouts;
    let upstream = &gateway.upstream;
    let purpose = Purpose::Permission(client.identity);
    let order = upstream.order();
    let head = || Head { method: Method::HEAD, path, headers: headers.clone() };
    let late = {
        let answer = upstream.ask_in(&order, purpose, head(), timeouts.registry_first_pull);
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(timeouts.registry_permission) => {}
        }
        let held = gateway.cache.holds(&blob.digest);
        tokio::select! {
            answer = &mut answer => return answer,
            Some(()) = async { (held || gateway.router.head(blob).await.is_some()).then_some(()) } => {}
        }
        let seconds = timeouts.registry_permission.as_secs();
        Problem::registry(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the registry did not say within {seconds} s who may read this blob"),
        )
    };
    if !upstream.several() {
        return Err(late);
    }
    // Another instance may answer sooner.
    let bound = timeouts.blob_answer.saturating_sub(timeouts.registry_permission);
    upstream.ask_in(&upstream.order_after(&order), purpose, head(), bound).await.map_err(|_| late)
}

/// Takes the registry's refusal for this blob in this repository.
pub(crate) fn refused(gateway: &Gateway, repository: &str, blob: &Blob, status: StatusCode) {
    gateway.permissions.refused(repository, &blob.digest, status);
    // Other refusals are about the client, and one client must not take anything from the others.
    if let Some(offline) = gateway.offline.as_ref().filter(|_| status == StatusCode::NOT_FOUND) {
        offline.forget_link(repository, blob.digest);
    }
}

/// Removes the conditions and ranges, so that the headers ask for the whole blob whatever the client already
/// has.
pub(crate) fn unconditional(mut headers: HeaderMap) -> HeaderMap {
    for conditional in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(conditional);
    }
    headers
}
