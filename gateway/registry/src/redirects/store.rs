//! The client for stores to which the registry redirects.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use backends::name_request;
use backends::proxy::{ProxyFault, ProxyRules, Route};
use config::Settings;
use http::header::{ACCEPT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::guard::{Guard, Port, Refusal, Resolver};
use crate::fetch::is_transient;

/// The most idle connections to one store.
const POOL_IDLE_CONNECTIONS_MAX: usize = 8;

/// The client for stores outside the configuration. It sends no credentials of a client.
#[derive(Debug, Clone)]
pub struct RedirectClient {
    guard: Arc<Guard>,
    /// One client for each kind of port, because their resolvers return different addresses.
    clients: Arc<HashMap<Port, reqwest::Client>>,
    /// For hosts behind a proxy. It connects only to proxies.
    proxied: Option<reqwest::Client>,
    proxies: Arc<ProxyRules>,
    first_byte: Duration,
    redirects_max: usize,
}

/// Why a store did not return a blob. The text contains no URL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The gateway must not connect to this place.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A redirect of the store has no `Location` that is a URL.
    #[error("it redirects to a place that is not a URL")]
    Location,
    /// There are more redirects than `limits.redirects`.
    #[error("its redirects do not end")]
    Endless,
    /// The store's answer is neither 200 nor a redirect.
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    /// The store gave no answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// There is no connection to the store, or it broke off.
    #[error("{0}")]
    Connection(String),
}

impl StoreError {
    /// Whether the same request may succeed later, without a change of a configuration.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Location | Self::Endless => false,
            Self::Status(status) => is_transient(*status),
            Self::Late(_) | Self::Connection(_) => true,
        }
    }
}

impl RedirectClient {
    /// A client with this TLS policy.
    ///
    /// # Errors
    /// The TLS policy cannot be used.
    pub fn new(tls: &Arc<rustls::ClientConfig>, settings: &Settings) -> Result<Self, reqwest::Error> {
        let (guard, timeouts) = (Arc::new(Guard::new(settings)), &settings.timeouts);
        let client = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured((**tls).clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(timeouts.zone_connect)
                .read_timeout(timeouts.zone_stall)
                .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
        };
        let direct = |port| {
            let resolver = Resolver { guard: Arc::clone(&guard), port };
            Ok((port, client().no_proxy().dns_resolver(resolver).build()?))
        };
        let proxies = Arc::clone(&settings.proxies);
        let proxied = match proxies.is_empty() {
            true => None,
            false => Some(proxies.applied_to(client()).build()?),
        };
        Ok(Self {
            proxied,
            proxies,
            clients: Arc::new(guard.ports().map(direct).collect::<Result<_, reqwest::Error>>()?),
            guard,
            first_byte: timeouts.zone_first_byte,
            redirects_max: settings.limits.redirects,
        })
    }

    /// Sends a `GET` to `url` and follows the store's redirects, at most `limits.redirects`. Returns the
    /// answer 200. The URL of the answer is the last one.
    ///
    /// # Errors
    /// - [`StoreError::Refused`] if the guard does not allow the place.
    /// - [`StoreError::Late`] or [`StoreError::Connection`] if the store gives no answer within
    ///   `timeouts.zone_first_byte`.
    /// - [`StoreError::Status`] if its answer is neither 200 nor a redirect.
    /// - [`StoreError::Location`] or [`StoreError::Endless`] if its redirects do not lead to a blob.
    pub(crate) async fn get(&self, mut url: Url) -> Result<reqwest::Response, StoreError> {
        for _ in 0..=self.redirects_max {
            let response = self.ask(&url).await?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                status if !status.is_redirection() => return Err(StoreError::Status(status)),
                _ => {}
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or(StoreError::Location)?;
        }
        Err(StoreError::Endless)
    }

    async fn ask(&self, url: &Url) -> Result<reqwest::Response, StoreError> {
        self.guard.url(url)?;
        let route = Route::new(&self.proxies, url);
        let client = match (self.proxies.of(url), &self.proxied) {
            (Some(_), Some(proxied)) => proxied,
            _ => self.clients.get(&self.guard.port(url)).ok_or(Refusal::NoHost)?,
        };
        let mut headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        // Headers that a signed URL does not sign may be added.
        name_request(&mut headers);
        let request = client.get(url.clone()).headers(headers).send();
        match tokio::time::timeout(self.first_byte, request).await {
            Ok(Ok(response)) => match route.answered_itself(response.status(), response.headers()) {
                Some(fault) => Err(StoreError::Connection(fault.to_string())),
                None => Ok(response),
            },
            Ok(Err(error)) => {
                let fault = route.fault(&error);
                Err(failed(fault, error.without_url()))
            }
            Err(_) => Err(match route.behind() {
                Some(fault) => {
                    let seconds = self.first_byte.as_secs();
                    StoreError::Connection(format!("{fault}: no answer within {seconds} s"))
                }
                None => StoreError::Late(self.first_byte),
            }),
        }
    }
}

/// An error with all its causes. If the resolver refused the place, returns that refusal.
fn failed(fault: Option<ProxyFault>, error: reqwest::Error) -> StoreError {
    let mut text = fault.map_or_else(|| error.to_string(), |fault| format!("{fault}: {error}"));
    let mut cause = error.source();
    while let Some(next) = cause {
        if let Some(refusal) = next.downcast_ref::<Refusal>() {
            return StoreError::Refused(*refusal);
        }
        text = format!("{text}: {next}");
        cause = next.source();
    }
    StoreError::Connection(text)
}
