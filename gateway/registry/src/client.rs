//! The registry as a client meets it: Quay itself, or the gateway in front of it.

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

/// One registry, dialled where the configuration says, and the stores that its redirects lead to.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    /// What errors call it: `registry` or `gateway`.
    server: &'static str,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) names: Names,
    pub(crate) stores: RedirectClient,
    /// `limits.redirects`.
    pub(crate) redirects_max: usize,
    /// How long a first byte of the registry's is waited for.
    bound: Duration,
}

impl RegistryClient {
    /// A client for what `settings` call the registry, over connections of its own. Errors call it `server`.
    ///
    /// # Errors
    /// The TLS policy cannot be used, or a name in the settings cannot stand in a request or a certificate.
    pub fn new(
        server: &'static str,
        settings: &Settings,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Self> {
        let names = Names::new(&settings.registry_hostname, &settings.hostname);
        let upstream = Arc::new(Upstream::new(settings, tls)?);
        let stores = RedirectClient::new(tls, settings)?;
        Ok(Self { server, ..Self::over(upstream, names, stores, settings) })
    }

    /// A client over connections that others use too.
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

    /// The same client, which waits for a first byte for `bound`.
    #[must_use]
    pub fn within(&self, bound: Duration) -> Self {
        Self { bound, ..self.clone() }
    }

    /// Whether a URL's authority is this registry.
    #[must_use]
    pub fn is(&self, authority: &str) -> bool {
        self.names.is_registry(authority)
    }

    /// A `GET` with these headers.
    ///
    /// # Errors
    /// As [`RegistryClient::send`]; and 400 if `path` cannot be a request's target.
    pub async fn get(&self, path: &str, headers: HeaderMap) -> Result<Answer, Problem> {
        let path: PathAndQuery = path.parse().map_err(|_| {
            let why = "a name cannot stand in a path of the registry";
            Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, "see the name")
        })?;
        self.send(Method::GET, &path, headers).await
    }

    /// A request without a body, with these headers.
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
        let asked = self.upstream.ask(purpose, method, path, headers, self.bound).await;
        asked.map_err(|problem| Problem { message: self.in_its_name(problem.message), ..problem })
    }

    /// A blob as a client gets it, its bytes not yet proven: redirects are followed, without `authorization`.
    ///
    /// # Errors
    /// As [`RegistryClient::fetch`].
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

    /// What an error of [`RegistryClient::blob`] says, with what the registry said.
    pub async fn explain(&self, error: FetchError) -> String {
        let text = match error {
            FetchError::Refused(answer) => format!("the registry answers {}", crate::describe(*answer).await),
            other => other.to_string(),
        };
        self.in_its_name(text)
    }

    /// Sets the headers that every request of this client has, and the id of the request of a client that it is sent
    /// for. Quay's nginx would compress a blob that it streams.
    pub(crate) fn address(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.upstream.host().clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        name_request(headers);
    }

    /// A sentence about the registry, as one about this server.
    fn in_its_name(&self, sentence: String) -> String {
        match self.server {
            "registry" => sentence,
            server => sentence.replacen("the registry", &format!("the {server}"), 1),
        }
    }
}
