//! A registry as a client meets it: Quay itself, or the gateway before it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use backends::{ByteStream, Digest, Error, Kind};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HOST, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyDataStream, BodyExt as _, Limited};
use url::Url;

use crate::Names;
use crate::redirects::{RedirectClient, Target, parse_target};
use crate::upstream::{Answer, Purpose, Upstream};
use config::Settings;
use gateway_http::content_length;
use limits::pool::Identity;

/// Bytes read of an answer that is no success.
const REFUSAL_MAX: usize = 16 * 1024;

/// Characters kept of what a server says.
const SAID_MAX: usize = 200;

/// One registry, dialled where the configuration says.
#[derive(Debug, Clone)]
pub struct Door {
    /// `registry` or `gateway`, for errors.
    whom: &'static str,
    upstream: Arc<Upstream>,
    names: Names,
    follow: RedirectClient,
    redirects: usize,
    /// For its first byte.
    bound: Duration,
}

/// A blob on its way.
pub struct Given {
    /// Its bytes as they come, not yet proven.
    pub body: ByteStream,
    /// Its size, if anyone says it.
    pub size: Option<u64>,
    /// `Cache-Status`, or the host and port of the store that gives it.
    pub told: Option<String>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

impl Door {
    /// The one that `settings` call the registry.
    ///
    /// # Errors
    /// Names in the settings that cannot stand in a request or a certificate.
    pub fn new(
        whom: &'static str,
        settings: &Settings,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Self> {
        let own = &settings.registry_hostname;
        Ok(Self {
            whom,
            upstream: Arc::new(Upstream::new(settings, tls)?),
            names: Names::new(own, own),
            follow: RedirectClient::new(tls, settings)?,
            redirects: settings.limits.redirects,
            bound: settings.timeouts.registry_answer,
        })
    }

    /// The registry over connections that others use too.
    pub fn over(upstream: Arc<Upstream>, names: Names, follow: RedirectClient, settings: &Settings) -> Self {
        let redirects = settings.limits.redirects;
        Self {
            whom: "registry",
            upstream,
            names,
            follow,
            redirects,
            bound: settings.timeouts.registry_answer,
        }
    }

    /// The same, waiting so long for a first byte.
    pub fn within(&self, bound: Duration) -> Self {
        Self { bound, ..self.clone() }
    }

    /// Whether a URL's authority is this registry.
    pub fn is(&self, authority: &str) -> bool {
        self.names.is_registry(authority)
    }

    /// A `GET` with these headers.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer in time.
    pub async fn ask(&self, path: &str, headers: HeaderMap) -> anyhow::Result<Answer> {
        let path: PathAndQuery = path.parse().context("not a path")?;
        self.send(Method::GET, &path, headers).await.map_err(anyhow::Error::msg)
    }

    /// A request without a body, with these headers. What is wrong comes in words.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer in time.
    pub async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        mut headers: HeaderMap,
    ) -> Result<Answer, String> {
        headers.insert(HOST, self.upstream.host().clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let asked =
            self.upstream.ask(Purpose::Any(Identity::GATEWAY), method, path, headers, self.bound).await;
        asked.map_err(|problem| match problem.message.strip_prefix("the registry") {
            Some(rest) => format!("the {}{rest}", self.whom),
            None => problem.message,
        })
    }

    /// A blob as a client gets it: redirects are followed, without the client's credentials.
    ///
    /// # Errors
    /// Nothing that answers gives it.
    pub async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        authorization: Option<&HeaderValue>,
    ) -> Result<Given, String> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let mut path: PathAndQuery = path.parse().map_err(|_| "the repository's name makes no path")?;
        let mut headers: HeaderMap =
            authorization.map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
        for _ in 0..=self.redirects {
            let answer = self.send(Method::GET, &path, std::mem::take(&mut headers)).await?;
            if answer.status() == StatusCode::OK {
                return self.given(answer);
            }
            if !answer.status().is_redirection() {
                return Err(format!("the {} answers {}", self.whom, said(answer).await));
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| parse_target(location, |name| self.is(name)));
            match target {
                Some(Target::Registry(next)) => path = next,
                Some(Target::Store(url)) => return self.at_store(url).await,
                None => return Err(format!("the {} redirects to a place that is no URL", self.whom)),
            }
        }
        Err(format!("the {}'s redirects do not end", self.whom))
    }

    fn given(&self, answer: Answer) -> Result<Given, String> {
        let (parts, body) = answer.into_parts();
        if parts.headers.contains_key(CONTENT_ENCODING) {
            return Err(format!("the {} compressed a blob although asked not to", self.whom));
        }
        let told = parts.headers.get("cache-status").and_then(|value| value.to_str().ok()).map(printable);
        let size = content_length(&parts.headers);
        let what = format!("read from the {}", self.whom);
        let body = BodyDataStream::new(body)
            .map_err(move |error| Error::new(Kind::Unavailable, what.clone()).with_cause(error))
            .boxed();
        Ok(Given { body, size, told })
    }

    async fn at_store(&self, url: Url) -> Result<Given, String> {
        let place = authority(&url);
        let failed =
            |why: String| format!("the store that the {} points to, {place}, failed: {why}", self.whom);
        let response = self.follow.get(url).await.map_err(failed)?;
        let told = Some(authority(response.url()));
        let size = content_length(response.headers());
        let what = format!("read from the store {place}");
        let body = response
            .bytes_stream()
            .map_err(move |error| Error::new(Kind::Unavailable, what.clone()).with_cause(error.without_url()))
            .boxed();
        Ok(Given { body, size, told })
    }
}

/// Host and port alone: the rest of a store's URL is a signature.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A body of at most `max` bytes.
///
/// # Errors
/// It is larger, or breaks off.
pub async fn whole(answer: Answer, max: usize) -> anyhow::Result<Vec<u8>> {
    match Limited::new(answer.into_body(), max).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) => bail!("not read whole, up to {max} bytes: {error}"),
    }
}

/// What an answer that is no success says: its status, and the first of its errors.
pub async fn said(answer: Answer) -> String {
    let status = answer.status();
    let body = whole(answer, REFUSAL_MAX).await.unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let first = &json["errors"][0];
    match (first["code"].as_str(), first["message"].as_str()) {
        (Some(code), Some(message)) => printable(&format!("{status}, {code}: {message}")),
        _ => status.to_string(),
    }
}

/// On one line, bounded, and without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX).collect()
}
