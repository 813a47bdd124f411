//! Fetches one blob as a client of the registry does: asks the registry, and follows its redirects.

use std::time::Duration;

use backends::{ByteStream, Error, Kind};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_ENCODING, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyDataStream;
use url::Url;

use crate::answer::printable;
use crate::client::RegistryClient;
use crate::redirects::{StoreError, Target, parse_target};
use crate::upstream::{Answer, Head, Order, Purpose};
use gateway_http::{Fault, Problem, content_length};
use limits::pool::Identity;

/// The first request for a blob.
#[derive(Debug)]
pub struct BlobRequest<'a> {
    /// The client for which the blob is fetched. It decides the share of the registry's connections.
    pub who: Identity,
    /// The instances to ask, in this order.
    pub order: Order,
    /// The blob's path and query, byte for byte.
    pub path: &'a PathAndQuery,
    /// The headers of the first request. Of these, only `User-Agent` is also sent to the target of a
    /// redirect. The request's id is always sent.
    pub headers: HeaderMap,
    /// The timeout for the first byte of each of the registry's answers.
    pub bound: Duration,
}

/// A blob that is being fetched.
pub struct FetchedBlob {
    /// The bytes as they arrive, not verified.
    pub body: ByteStream,
    /// The size in bytes, if the sender names it.
    pub size: Option<u64>,
    /// The sender.
    pub from: Origin,
}

/// The sender of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The registry itself, with this `Cache-Status`.
    Registry(Option<String>),
    /// The store at this host and port, to which the registry redirected.
    Store(String),
}

/// Why a blob was not fetched. The text contains no URL, because a store's URL contains a signature.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The repository's name cannot be part of a path.
    #[error("the repository's name cannot be part of a path")]
    Name,
    /// The registry gave no answer.
    #[error("{0}")]
    Unanswered(Problem),
    /// The registry's answer is neither the blob nor a redirect. Some callers relay it to their client.
    #[error("the registry answers {}", .0.status())]
    Refused(Box<Answer>),
    /// A redirect of the registry has no `Location` that can be followed.
    #[error("the registry redirects to a place that is not a URL")]
    Location,
    /// There are more redirects than `limits.redirects`.
    #[error("the registry's redirects for this blob do not end")]
    Endless,
    /// The registry sends the blob with a `Content-Encoding`.
    #[error("the registry compressed a blob although it was asked not to")]
    Compressed,
    /// The store to which the registry redirected does not return the blob.
    #[error("the store that the registry points to, {place}, failed: {error}")]
    Store {
        /// The store's host and port.
        place: String,
        /// The error of the store.
        error: StoreError,
    },
}

impl FetchError {
    /// The party that is at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Name => Fault::Client,
            Self::Unanswered(problem) => problem.fault,
            Self::Refused(_) | Self::Location | Self::Endless | Self::Compressed => Fault::Registry,
            Self::Store { .. } => Fault::Zone,
        }
    }

    /// Whether the same request may succeed later, without a change of a configuration.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Name | Self::Location | Self::Endless | Self::Compressed => false,
            Self::Unanswered(problem) => problem.retry,
            Self::Refused(answer) => is_transient(answer.status()),
            Self::Store { error, .. } => error.may_retry(),
        }
    }
}

/// Whether a refusal with this status may be temporary.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

impl RegistryClient {
    /// Asks the registry for a blob and follows its redirects, without the credentials of the first request.
    ///
    /// # Errors
    /// - [`FetchError::Unanswered`] if the registry gives no answer within the bound.
    /// - [`FetchError::Refused`] if its answer is neither 200 nor a redirect.
    /// - [`FetchError::Location`] or [`FetchError::Endless`] if its redirects do not lead to a blob.
    /// - [`FetchError::Compressed`] if it changed the blob's bytes.
    /// - [`FetchError::Store`] if the gateway may not connect to the store, or the store does not return the
    ///   blob.
    pub async fn fetch(&self, request: BlobRequest<'_>) -> Result<FetchedBlob, FetchError> {
        let BlobRequest { who, mut order, path, mut headers, bound } = request;
        let anonymous = without_credentials(&headers);
        let mut path = path.clone();
        for _ in 0..=self.redirects_max {
            self.address(&mut headers);
            let head = Head { method: Method::GET, path: &path, headers };
            let answer = self.upstream.ask_in(&order, Purpose::Any(who), head, bound).await;
            let answer = answer.map_err(FetchError::Unanswered)?;
            if answer.status() == StatusCode::OK {
                return from_registry(answer);
            }
            if !answer.status().is_redirection() {
                return Err(FetchError::Refused(Box::new(answer)));
            }
            let target = self.target(answer.headers())?;
            // The answer holds a slot of `limits.registry_connections`, and the store may be slow.
            drop(answer);
            match target {
                Target::Registry(next) => path = next,
                Target::Store(url) => return self.at_store(url).await,
            }
            (order, headers) = (self.upstream.order(), anonymous.clone());
        }
        Err(FetchError::Endless)
    }

    fn target(&self, headers: &HeaderMap) -> Result<Target, FetchError> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| parse_target(location, |name| self.is(name)));
        target.ok_or(FetchError::Location)
    }

    async fn at_store(&self, url: Url) -> Result<FetchedBlob, FetchError> {
        let place = authority(&url);
        let response = self.stores.get(url).await;
        let response = response.map_err(|error| FetchError::Store { place: place.clone(), error })?;
        let from = Origin::Store(authority(response.url()));
        let size = content_length(response.headers());
        let what = format!("read from the store {place}");
        let body = response
            .bytes_stream()
            .map_err(move |error| Error::new(Kind::Unavailable, what.clone()).with_cause(error.without_url()))
            .boxed();
        Ok(FetchedBlob { body, size, from })
    }
}

fn from_registry(answer: Answer) -> Result<FetchedBlob, FetchError> {
    let (parts, body) = answer.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(FetchError::Compressed);
    }
    let cache_status = parts.headers.get("cache-status").and_then(|value| value.to_str().ok());
    let from = Origin::Registry(cache_status.map(printable));
    let size = content_length(&parts.headers);
    let body = BodyDataStream::new(body)
        .map_err(|error| Error::new(Kind::Unavailable, "read from the registry").with_cause(error))
        .boxed();
    Ok(FetchedBlob { body, size, from })
}

/// The headers that do not identify the client.
fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let agent = headers.get(USER_AGENT).map(|agent| (USER_AGENT, agent.clone()));
    agent.into_iter().collect()
}

/// The host and port of a URL, and nothing else.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl std::fmt::Debug for FetchedBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchedBlob")
            .field("size", &self.size)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
