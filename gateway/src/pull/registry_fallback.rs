//! The registry fallback: if no zone has a blob, the gateway fetches it as the registry tells a client to. This
//! serves legacy keys, proxy-cache organisations and stores outside the configuration.

use backends::{ByteStream, Error, Kind};
use futures_util::{StreamExt, TryStreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyDataStream;
use url::Url;
use zone_router::{Blob, Verified};

use super::fill::Opened;
use crate::Gateway;
use crate::authorize;
use crate::forward;
use crate::request::Client;
use gateway_http::{Body, Problem};
use registry::redirects::{Target, parse_target};
use registry::upstream::{Answer, Does, Head, Purpose};

/// What the registry fallback led to.
pub(crate) enum Fetched {
    /// The blob.
    Blob(Opened),
    /// An answer of the registry that is no blob, for the client as it is.
    Relay(Response<Body>),
}

/// Asks the registry for a blob with the client's own headers and follows where it points,
/// without them.
///
/// # Errors
/// The registry, or the store that it points to, gave no answer or no blob.
pub(crate) async fn fetch(
    gateway: &Gateway,
    request: &Parts,
    blob: &Blob,
    expected: Option<u64>,
    client: &Client,
) -> Result<Fetched, Problem> {
    let headers = authorize::unconditional(forward::headers(gateway, request, client));
    let bound = gateway.settings.timeouts.registry_first_pull;
    // An instance answers with a URL of the store that it prefers, whether that store serves or not.
    let order = gateway.by_store(Does::Reads, None);
    let head = Head { method: Method::GET, path: forward::path(request)?, headers };
    let mut answer = gateway.upstream.ask_in(&order, Purpose::Any(client.identity), head, bound).await?;
    for _ in 0..=gateway.settings.limits.redirects {
        if answer.status() == StatusCode::OK {
            return Ok(Fetched::Blob(from_registry(answer, blob, expected)?));
        }
        if !answer.status().is_redirection() {
            return Ok(Fetched::Relay(forward::relay(gateway, answer)));
        }
        let target = target(gateway, answer.headers())?;
        // Its connection is given back before another is taken.
        drop(answer);
        match target {
            Target::Registry(path) => {
                answer = gateway
                    .upstream
                    .ask(
                        Purpose::Any(client.identity),
                        Method::GET,
                        &path,
                        anonymous(gateway, request),
                        bound,
                    )
                    .await?;
            }
            Target::Store(url) => return from_store(gateway, url, blob, expected).await.map(Fetched::Blob),
        }
    }
    Err(Problem::registry(StatusCode::BAD_GATEWAY, "the registry's redirects for this blob do not end"))
}

/// Headers without credentials.
fn anonymous(gateway: &Gateway, request: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, gateway.upstream.host().clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(agent) = request.headers.get(USER_AGENT) {
        headers.insert(USER_AGENT, agent.clone());
    }
    headers
}

fn target(gateway: &Gateway, headers: &HeaderMap) -> Result<Target, Problem> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    location
        .and_then(|location| parse_target(location, |authority| gateway.names.is_registry(authority)))
        .ok_or_else(|| {
            Problem::registry(StatusCode::BAD_GATEWAY, "the registry redirects to a place that is no URL")
        })
}

fn from_registry(answer: Answer, blob: &Blob, expected: Option<u64>) -> Result<Opened, Problem> {
    let (parts, body) = answer.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::registry(
            StatusCode::BAD_GATEWAY,
            "the registry compressed a blob although asked not to",
        ));
    }
    let size = gateway_http::content_length(&parts.headers);
    let body = BodyDataStream::new(body)
        .map_err(|error| Error::new(Kind::Unavailable, "read from the registry").with_cause(error))
        .boxed();
    if let Some(why) = contradiction(blob, size, expected) {
        return Err(Problem::zones(format!("no zone has the blob, and from the registry {why}")));
    }
    Ok(opened(body, blob, size.or(expected), "registry"))
}

async fn from_store(
    gateway: &Gateway,
    url: Url,
    blob: &Blob,
    expected: Option<u64>,
) -> Result<Opened, Problem> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let response = gateway.follow.get(url).await.map_err(|why| elsewhere(blob, &host, &why))?;
    let size = gateway_http::content_length(response.headers());
    let body: ByteStream = response
        .bytes_stream()
        .map_err(|error| {
            Error::new(Kind::Unavailable, "read from the registry's store").with_cause(error.without_url())
        })
        .boxed();
    if let Some(why) = contradiction(blob, size, expected) {
        return Err(elsewhere(blob, &host, &why));
    }
    Ok(opened(body, blob, size.or(expected), "registry-redirect"))
}

/// Only the log shows what a place outside the configuration answers: the client may have made the registry
/// point there to read the answer.
fn elsewhere(blob: &Blob, host: &str, why: &str) -> Problem {
    tracing::warn!(digest = %blob.digest, host, why, "the store that the registry points to does not give a blob");
    Problem::zones("no zone has the blob, and the place that the registry points to does not give it")
}

fn contradiction(blob: &Blob, size: Option<u64>, expected: Option<u64>) -> Option<String> {
    let size = size?;
    match expected {
        Some(expected) if size != expected => Some(format!("it gives {size} bytes, not {expected}")),
        _ => (!blob.digest.may_have(size))
            .then(|| format!("it gives {size} bytes, which the digest rules out")),
    }
}

fn opened(body: ByteStream, blob: &Blob, size: Option<u64>, from: &str) -> Opened {
    Opened { from: from.into(), body: Verified::hashing(body, blob.digest, size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_contradict_the_registry_or_the_digest() {
        let blob = |digest| Blob { digest, key: backends::Key::new("k") };
        let (full, empty) = (blob(backends::Digest::of(b"hello")), blob(backends::Digest::EMPTY));
        for (blob, size, expected, contradicts) in [
            (&full, Some(5), None, false),
            (&full, Some(5), Some(5), false),
            (&full, Some(4), Some(5), true),
            (&full, Some(0), None, true),
            (&full, Some(0), Some(0), true),
            (&full, None, Some(5), false),
            (&empty, Some(0), None, false),
            (&empty, Some(5), None, true),
        ] {
            assert_eq!(contradiction(blob, size, expected).is_some(), contradicts, "{size:?} {expected:?}");
        }
    }
}
