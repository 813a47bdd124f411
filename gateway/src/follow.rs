//! Fetching a blob the way the registry itself would have a client fetch it, when no zone that
//! the gateway knows has it: legacy keys, proxy-cache organisations, stores outside the
//! configuration.

mod guard;

use std::error::Error as _;
use std::sync::Arc;

use backends::{ByteStream, Error, Kind};
use futures_util::{StreamExt, TryStreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyDataStream;
use url::Url;
use zone_router::Blob;

use self::guard::{Guard, Resolver};
use crate::Gateway;
use crate::auth;
use crate::cache::Opened;
use crate::client::Client;
use crate::config::Settings;
use crate::forward;
use crate::http::{Body, Problem};
use crate::proven::proven;
use crate::upstream::{Answer, Does, Head, Purpose};

/// Idle connections kept to one store outside the configuration.
const POOL_IDLE_CONNECTIONS_MAX: usize = 8;

/// The client for stores outside the configuration. It never sends a client's credentials.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    guard: Arc<Guard>,
    client: reqwest::Client,
    /// For URLs whose port a listener of the gateway's has: it dials no address of this machine.
    outward: reqwest::Client,
    first_byte: std::time::Duration,
    redirects: usize,
}

/// What the registry's own way led to.
pub(crate) enum Fetched {
    /// The blob.
    Blob(Opened),
    /// An answer of the registry that is no blob, for the client as it is.
    Relay(Response<Body>),
}

/// Where a `Location` points.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The registry itself, under either of its names: dialled where the configuration says, bytes unchanged,
    /// as Quay compares `_storage_proxy` paths byte for byte
    /// (`storage/downloadproxy.py:_validate_proxy_url`).
    Registry(PathAndQuery),
    /// A store.
    Store(Url),
}

impl Follow {
    /// A client with this TLS policy.
    ///
    /// # Errors
    /// The TLS policy is not usable.
    pub(crate) fn new(tls: &Arc<rustls::ClientConfig>, settings: &Settings) -> Result<Self, reqwest::Error> {
        let (guard, timeouts) = (Arc::new(Guard::new(settings)), &settings.timeouts);
        let client = |own_port| {
            reqwest::Client::builder()
                .tls_backend_preconfigured((**tls).clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .dns_resolver(Resolver { guard: Arc::clone(&guard), own_port })
                .connect_timeout(timeouts.zone_connect)
                .read_timeout(timeouts.zone_stall)
                .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
                .build()
        };
        Ok(Self {
            client: client(false)?,
            outward: client(true)?,
            guard,
            first_byte: timeouts.zone_first_byte,
            redirects: settings.limits.redirects,
        })
    }

    /// Asks for it, and where it has gone, `limits.redirects` times at most: the store's 200, whose
    /// URL is the last one. What is wrong comes back in words, without the URL.
    ///
    /// # Errors
    /// It may not be followed there, or gets no answer within `timeouts.zone_first_byte`, or one that is no
    /// 200.
    pub(crate) async fn get(&self, mut url: Url) -> Result<reqwest::Response, String> {
        for _ in 0..=self.redirects {
            let response = self.ask(&url).await?;
            if response.status().is_redirection() {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                url = next.ok_or("it redirects to a place that is no URL")?;
            } else if response.status() == StatusCode::OK {
                return Ok(response);
            } else {
                return Err(format!("status {}", response.status().as_u16()));
            }
        }
        Err("its redirects do not end".into())
    }

    async fn ask(&self, url: &Url) -> Result<reqwest::Response, String> {
        self.guard.url(url).map_err(|refusal| refusal.to_string())?;
        let client = if self.guard.has_own_port(url) { &self.outward } else { &self.client };
        let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity").send();
        match tokio::time::timeout(self.first_byte, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(causes(error.without_url())),
            Err(_) => Err(format!("no answer within {} s", self.first_byte.as_secs())),
        }
    }
}

/// An error down to its cause, such as a refusal of the resolver.
fn causes(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Asks the registry for a blob with the client's own headers and follows where it points,
/// without them.
///
/// # Errors
/// The registry or the store it points to gave no answer, or no blob.
pub(crate) async fn fetch(
    gateway: &Gateway,
    request: &Parts,
    blob: &Blob,
    expected: Option<u64>,
    client: &Client,
) -> Result<Fetched, Problem> {
    let headers = auth::unconditional(forward::headers(gateway, request, client));
    let bound = gateway.settings.timeouts.registry_first_pull;
    // An instance answers with a URL of the store that it prefers, dead or alive.
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
        // Its connection goes back before another is asked for.
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

/// Headers that name nobody.
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

/// Where a `Location` points; `None` if it is no URL that can be followed.
pub(crate) fn parse_target(location: &str, is_registry: impl Fn(&str) -> bool) -> Option<Target> {
    if location.starts_with('/') && !location.starts_with("//") {
        return location.parse().ok().map(Target::Registry);
    }
    let (_, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if is_registry(authority) {
        return path.parse().ok().map(Target::Registry);
    }
    let url: Url = location.parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(Target::Store(url))
}

fn from_registry(answer: Answer, blob: &Blob, expected: Option<u64>) -> Result<Opened, Problem> {
    let (parts, body) = answer.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::registry(
            StatusCode::BAD_GATEWAY,
            "the registry compressed a blob although asked not to",
        ));
    }
    let size = forward::content_length(&parts.headers);
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
    let size = forward::content_length(response.headers());
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

/// What a place outside the configuration answers is for the log alone: the client may have had the registry
/// point there to hear it.
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
    Opened { size, from: from.into(), body: proven(body, blob.digest, size), resume: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(location: &str) -> Option<Target> {
        parse_target(location, |authority| authority.eq_ignore_ascii_case("quay.example.com"))
    }

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

    #[test]
    fn the_registry_keeps_its_bytes() {
        let path = "/_storage_proxy/ZXlK/https/store%2Fx/a//b/../c?Signature=a%2Fb%3D&Expires=1";
        let expected = Some(Target::Registry(path.parse().expect("a path")));
        assert_eq!(parsed(&format!("https://quay.example.com{path}")), expected);
        assert_eq!(parsed(path), expected);
    }

    #[test]
    fn others_are_stores() {
        let url = "https://store.example.com/b/k?X-Amz-Signature=0a";
        assert_eq!(parsed(url), Some(Target::Store(url.parse().expect("a URL"))));
        for wrong in ["", "store", "ftp://x/y", "//evil.example.com/x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
