//! Decides who may read: the registry decides, and its permission is remembered for a short time.

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
use crate::permissions::{Granted, Question};
use crate::request::Client;

/// The registry's decision about one read.
pub(crate) enum Verdict {
    /// The client may read.
    Yes(Granted),
    /// The registry refused: its answer to `HEAD`.
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
    // The headers as the registry gets them. A header that the registry does not get cannot have influenced
    // its decision.
    let headers = unconditional(forward::headers(gateway, request, client));
    let target = forward::path(request)?;
    let may_judge = |name: &_| gateway.registry.may_judge(name);
    let asked = Question::new(&headers, target, may_judge, repository, blob.digest);
    if let Some(yes) = asked.as_ref().and_then(|asked| gateway.permissions.remembered(asked)) {
        return Ok(Verdict::Yes(yes));
    }
    // Measured before the question: a permission lasts no longer than the tokens did at that time.
    let (when, now) = (Instant::now(), SystemTime::now());
    let answer = ask_registry(gateway, request, &headers, blob, client).await?;
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

/// Removes the conditions and ranges, so that the headers ask for the whole blob whatever the client already
/// has.
pub(crate) fn unconditional(mut headers: HeaderMap) -> HeaderMap {
    for conditional in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(conditional);
    }
    headers
}
