//! Who may read: the registry decides, and its yes is remembered for a moment.

use std::time::SystemTime;

use gateway_http::Problem;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use registry::token_life;
use registry::upstream::{Answer, Head, Purpose};
use tokio::time::Instant;
use zone_router::Blob;

use crate::Gateway;
use crate::forward;
use crate::permissions::{Asked, Granted};
use crate::request::Client;

/// The registry's word on one read.
pub(crate) enum Verdict {
    /// It may go on.
    Yes(Granted),
    /// The registry's answer to `HEAD`, which is no yes.
    No(Box<Answer>),
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
    // As the registry sees them: what it does not see, it has not judged.
    let headers = unconditional(forward::headers(gateway, request, client));
    let target = forward::path(request)?;
    let may_judge = |name: &_| gateway.registry.may_judge(name);
    let asked = Asked::new(&headers, target, may_judge, repository, blob.digest);
    if let Some(yes) = asked.as_ref().and_then(|asked| gateway.permissions.remembered(asked)) {
        return Ok(Verdict::Yes(yes));
    }
    // Before the question: a yes lasts no longer than the tokens did at that moment.
    let (when, now) = (Instant::now(), SystemTime::now());
    let answer = ask(gateway, request, &headers, blob, client).await?;
    if !gateway.registry.permits(answer.status(), answer.headers(), &blob.digest) {
        if answer.status() == StatusCode::NOT_FOUND {
            gateway.permissions.unknown(repository, &blob.digest);
        }
        return Ok(Verdict::No(Box::new(answer)));
    }
    let is_redirect = answer.status() != StatusCode::OK;
    let size = gateway_http::content_length(answer.headers())
        .filter(|size| !is_redirect && blob.digest.may_have(*size));
    let granted = gateway.permissions.granted(size, answer.headers(), is_redirect);
    if let Some(asked) = asked {
        let life = token_life::shortest(&headers, target.query(), may_judge, now);
        gateway.permissions.remember(asked, granted.clone(), life, when);
    }
    Ok(Verdict::Yes(granted))
}

/// `HEAD` at the registry with the client's own headers.
///
/// The first pull of a proxy-cache organisation keeps the answer back for minutes, so the short
/// bound holds only for what the cache or a zone could serve.
async fn ask(
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
    // Perhaps another instance knows sooner.
    let bound = timeouts.blob_answer.saturating_sub(timeouts.registry_permission);
    upstream.ask_in(&upstream.order_after(&order), purpose, head(), bound).await.map_err(|_| late)
}

/// Headers that ask for the whole, whatever the client has of it.
pub(crate) fn unconditional(mut headers: HeaderMap) -> HeaderMap {
    for conditional in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(conditional);
    }
    headers
}
