//! Requests that read something other than a blob.

use std::sync::Arc;
use std::time::SystemTime;

use gateway_http::{Body, Problem};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WARNING, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use offline::{AcceptClass, Kept};
use registry::bearer::bearer_token;
use registry::upstream::Answer;
use registry::{Read, is_plain_query, loggable};
use tokio::time::Instant;

use super::{Offline, Who, fails, learn, login};
use crate::Gateway;
use crate::authorize::unconditional;
use crate::forward;
use crate::metrics::Source;
use crate::request::Client;
use config::RegistryKind;

/// What a stale answer says of itself (RFC 9111, section 5.5, and RFC 9211).
const STALE: HeaderValue = HeaderValue::from_static("110 quay-gateway \"Response is Stale\"");
const STALE_CACHE_STATUS: HeaderValue = HeaderValue::from_static("quay-gateway; hit; stale");

/// Answers a request that reads something other than a blob: by the registry if it answers, or else from what is
/// remembered.
pub(crate) async fn read(
    gateway: &Arc<Gateway>,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Response<Body> {
    let (bound, asked) = (gateway.settings.timeouts.registry_answer, Instant::now());
    let answered = forward::answered(gateway, request, body, client, bound).await;
    let Some(offline) = gateway.offline.as_ref().filter(|_| fails(&answered)) else {
        let response = relayed(gateway, request, answered, client);
        return learn(gateway, request, asked, response, client);
    };
    match remembered(gateway, offline, request, client).await {
        Ok(response) => {
            tracing::info!(
                path = loggable(request.uri.path()),
                "the registry is away: answered from what is remembered"
            );
            response
        }
        // The registry's own error says more.
        Err(_) if answered.is_ok() => relayed(gateway, request, answered, client),
        Err(problem) => forward::refused(request, &problem),
    }
}

fn relayed(
    gateway: &Gateway,
    request: &Parts,
    answered: Result<Answer, Problem>,
    client: &Client,
) -> Response<Body> {
    match answered {
        Ok(answer) => forward::relay(gateway, answer, client),
        Err(problem) => forward::refused(request, &problem),
    }
}

async fn remembered(
    gateway: &Gateway,
    offline: &Offline,
    request: &Parts,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    match Read::parse(&request.method, request.uri.path()) {
        Read::Ping => ping(gateway, offline, request, client).await,
        Read::Token => login::answer(gateway, offline, request, client).await,
        Read::Manifest { repository, reference } if is_plain_query(request.uri.query()) => {
            manifest(gateway, offline, request, (repository, reference), client).await
        }
        Read::Manifest { .. } | Read::Other => Err(Problem::away()),
    }
}

/// `/v2/`: Quay asks everybody for a token who has none that is valid. Of other registries it is not known whether they
/// ask.
async fn ping(
    gateway: &Gateway,
    offline: &Offline,
    request: &Parts,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    if gateway.settings.registry_kind == RegistryKind::Quay {
        let sent = forward::judged(gateway, request, client);
        let Some(token) = bearer_token(&sent) else {
            return Ok(unauthorized(gateway, None, client));
        };
        let is_quays = gateway.tokens.as_ref().is_some_and(|tokens| tokens.verified(token).is_ok());
        let token = backends::Secret::new(token);
        let is_own = move |known: &offline::Remembered| known.is_own(token.reveal(), SystemTime::now());
        if !is_quays && !offline.reading(is_own).await? {
            return Ok(unauthorized(gateway, None, client));
        }
    }
    let mut answer = Response::new(Body::full("true"));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("4"));
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    Ok(answer)
}

/// Asks the client for a token, as Quay does (`auth/registry_jwt_auth.py:get_auth_headers`). Other registries have token
/// servers that the gateway does not know: 503.
pub(crate) fn unauthorized(gateway: &Gateway, repository: Option<&str>, client: &Client) -> Response<Body> {
    let offers = gateway.offline.as_ref().is_some_and(|offline| offline.remembered.credentials().is_some());
    if gateway.settings.registry_kind != RegistryKind::Quay || !offers {
        return Problem::away().response();
    }
    let host = &gateway.settings.registry_hostname;
    let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
    let challenge = format!("Bearer realm=\"https://{host}/v2/auth\",service=\"{host}\"{scope}");
    let message = "the registry is away, and let no such client read this lately";
    let fix = "log in with a credential that was used through this gateway before, or retry when the registry is back";
    let mut answer = Problem::client(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message, fix).response();
    if let Ok(challenge) = challenge.parse() {
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        answer
            .headers_mut()
            .insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        gateway.names.rewrite(answer.headers_mut(), &client.dialled);
    }
    answer
}

async fn manifest(
    gateway: &Gateway,
    offline: &Offline,
    request: &Parts,
    (repository, reference): (String, String),
    client: &Client,
) -> Result<Response<Body>, Problem> {
    let sent = unconditional(forward::headers(gateway, request, client));
    let (who, accept) = (Who::of(gateway, &sent, &repository), AcceptClass::of(&sent));
    let name = repository.clone();
    let (may, kept) = offline
        .reading(move |remembered| {
            let (now, store) = (SystemTime::now(), remembered.store());
            let may = who.may_read(remembered, &name, now);
            let kept = match reference.parse() {
                _ if !may => None,
                Ok(digest) => store.manifest(&name, &digest, now),
                Err(_) => store.tag(&name, &reference, accept, now),
            };
            (may, kept)
        })
        .await?;
    match kept {
        Some(kept) => {
            gateway.metrics.stale_manifest();
            Ok(stale(kept))
        }
        None if !may => Ok(unauthorized(gateway, Some(&repository), client)),
        None => Err(Problem::away()),
    }
}

/// A manifest from before the registry went away.
fn stale(kept: Kept) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    let text = |text: String| HeaderValue::from_str(&text).ok();
    let named = [
        (CONTENT_TYPE, text(kept.content_type)),
        (HeaderName::from_static("docker-content-digest"), text(kept.digest.to_string())),
        (WARNING, Some(STALE)),
        (HeaderName::from_static("cache-status"), Some(STALE_CACHE_STATUS)),
    ];
    headers.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.body.len()));
    *answer.body_mut() = Body::full(kept.body);
    Source::HIT.of(answer)
}
