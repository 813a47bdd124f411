//! A client of a registry: of Quay itself, or of the gateway in front of it.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, name_request};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::Names;
use crate::fetch::{BlobRequest, FetchError, FetchedBlob};
use crate::redirects::RedirectClient;
use crate::upstream::{Answer, Purpose, Upstream};
use config::Settings;
use gateway_http::Problem;
use limits::pool::Identity;

/// A client of one registry, which connects to the address in the configuration, and of the stores that its
/// redirects lead to.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    /// The name of the server in errors: `registry` or `gateway`.
    server: &'static str,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) names: Names,
    pub(crate) stores: RedirectClient,
    /// `limits.redirects`.
    pub(crate) redirects_max: usize,
    /// The timeout for the first byte of the registry's answer.
    bound: Duration,
}

impl RegistryClient {
    /// A client of the registry in `settings`, with connections of its own. Errors name it `server`.
    ///
    /// # Errors
    /// The TLS policy cannot be used, or a name in the settings cannot be part of a request or a certificate.
    pub fn new(
        server: &'static str,
        settings: &Settings,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Self> {
        let names = Names::of(settings)?;
        let upstream = Arc::new(Upstream::new(settings, tls)?);
        let stores = RedirectClient::new(tls, settings)?;
        Ok(Self { server, ..Self::over(upstream, names, stores, settings) })
    }

    /// A client that shares connections with others.
    #[must_use]
    pub fn over(upstream: Arc<Upstream>, names: Names, stores: RedirectClient, settings: &Settings) -> Self {
        Self {
            server: "registry",
            upstream,
            names,
            stores,
            redirects_max: settings.limits.redirects,
            bound: settings.timeouts.registry_answer,
        }
    }

    /// The same client with another timeout for the first byte.
    #[must_use]
    pub fn within(&self, bound: Duration) -> Self {
        Self { bound, ..self.clone() }
    }

    /// Whether a URL's authority is this registry.
    #[must_use]
    pub fn is(&self, authority: &str) -> bool {
        self.names.is_registry(authority)
    }

    /// Sends a `GET` with these headers.
    ///
    /// # Errors
    /// Those of [`RegistryClient::send`], and 400 if `path` cannot be the target of a request.
    pub async fn get(&self, path: &str, headers: HeaderMap) -> Result<Answer, Problem> {
        let path: PathAndQuery = path.parse().map_err(|_| {
            let why = "a name cannot stand in a path of the registry";
            Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, "see the name")
        })?;
        self.send(Method::GET, &path, headers).await
    }

    /// Sends a request without a body, with these headers.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached, 504 if it does not answer in time, 503 if
    /// `limits.registry_connections` has no room.
    pub async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        mut headers: HeaderMap,
    ) -> Result<Answer, Problem> {
        self.address(&mut headers);
        let purpose = Purpose::Any(Identity::GATEWAY);
        let sent = self.upstream.ask(purpose, method, path, headers, self.bound).await;
        sent.map_err(|problem| Problem { message: self.name_server(problem.message), ..problem })
    }

    /// Fetches a blob as a client does: redirects are followed, without `authorization`. The bytes are not
    /// verified.
    ///
    /// # Errors
    /// Those of [`RegistryClient::fetch`].
    pub async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        authorization: Option<&HeaderValue>,
    ) -> Result<FetchedBlob, FetchError> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let path: PathAndQuery = path.parse().map_err(|_| FetchError::Name)?;
        let headers = authorization.map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
        let (who, order) = (Identity::GATEWAY, self.upstream.order());
        self.fetch(BlobRequest { who, order, path: &path, headers, bound: self.bound }).await
    }

    /// Describes an error of [`RegistryClient::blob`], with the registry's own text.
    pub async fn explain(&self, error: FetchError) -> String {
        let text = match error {
            FetchError::Refused(answer) => format!("the registry answers {}", crate::describe(*answer).await),
            other => other.to_string(),
        };
        self.name_server(text)
    }

    /// Sets the headers that every request of this client has, and the id of the client's request for which
    /// it is sent. Without `Accept-Encoding: identity`, Quay's nginx would compress a blob that it streams.
    pub(crate) fn address(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.upstream.host().clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        name_request(headers);
    }

    /// Replaces the word "registry" in a sentence by the name of this server.
    fn name_server(&self, sentence: String) -> String {
        match self.server {
            "registry" => sentence,
            server => sentence.replacen("the registry", &format!("the {server}"), 1),
        }
    }
}
