//! Reads the registry with the gateway's service account (`registry.account`): manifests, tags, repositories,
//! blobs, and whether a blob still belongs to a repository.

mod error;
mod page;
mod scope;
mod token_servers;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

pub use error::ReadError;
pub use page::Page;
pub use scope::Scope;
pub use tokens::{NoToken, Tokens};

use crate::Registry;
use crate::answer::read_body;
use crate::client::RegistryClient;
use crate::fetch::FetchedBlob;
use crate::upstream::Answer;
use config::{RegistryKind, Settings};

/// All types of manifests by name. Without them, Quay converts a manifest and returns another one than was
/// pushed.
pub const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json";

/// The timeout for the first byte of any answer except a blob.
const ANSWER_BOUND: Duration = Duration::from_secs(15);

/// The number of names on one page. Quay returns no more (`endpoints/v2/__init__.py:paginate`).
const PAGE: usize = 100;

/// The bytes of one page: 100 repositories of 512 bytes, and their quotes.
const PAGE_MAX: usize = 256 * 1024;

/// Reads the registry with the service account. There is one login at a time. After a login was refused,
/// there is none for some time.
#[derive(Debug)]
pub struct Reader {
    client: RegistryClient,
    tokens: Tokens,
    registry: Arc<dyn Registry>,
    kind: RegistryKind,
    manifest_max: usize,
    /// The timeout for a blob's first byte. A proxy-cache organisation fetches the blob first.
    blob_bound: Duration,
}

impl Reader {
    /// A reader that uses the connections of `client`. `None` if no service account is configured.
    ///
    /// # Errors
    /// The TLS policy cannot be used.
    pub fn new(
        settings: &Settings,
        client: &RegistryClient,
        registry: Arc<dyn Registry>,
        tls: &rustls::ClientConfig,
    ) -> anyhow::Result<Option<Self>> {
        let Some(account) = settings.account.clone() else { return Ok(None) };
        Ok(Some(Self {
            client: client.within(ANSWER_BOUND),
            tokens: Tokens::new(client, Some(account), tls, &settings.proxies)?,
            registry,
            kind: settings.registry_kind,
            manifest_max: usize::try_from(settings.limits.manifest.as_u64()).unwrap_or(usize::MAX),
            blob_bound: settings.timeouts.registry_first_pull,
        }))
    }

    /// This reader, with the tokens of another one of the same account at the same registry.
    #[must_use]
    pub fn sharing_tokens(self, other: &Self) -> Self {
        Self { tokens: self.tokens.sharing(&other.tokens), ..self }
    }

    /// Logs in, if the registry requires it.
    ///
    /// # Errors
    /// - [`ReadError::Denied`] if the login is refused, or was refused recently.
    /// - [`ReadError::Busy`] if the registry or its token server does not answer.
    pub async fn log_in(&self) -> Result<(), ReadError> {
        Ok(self.tokens.authorization(&self.catalog()).await.map(drop)?)
    }

    /// Gets a token for the first of these repositories, if there is none. The same login also asks for as
    /// many of the other repositories as one token can name, because each login costs the registry a slow
    /// hash. Returns whether it logged in. An error is not reported here: it occurs again when the token is
    /// needed.
    pub async fn prepare(&self, repositories: &[String]) -> bool {
        let scopes: Vec<_> = repositories.iter().map(|repository| pull(repository)).collect();
        self.tokens.prepare(&scopes).await
    }

    /// The scope with which the account lists repositories.
    fn catalog(&self) -> Scope {
        match self.kind {
            RegistryKind::Quay => Scope::Login,
            RegistryKind::Distribution | RegistryKind::Oci => Scope::Catalog,
        }
    }

    /// Reads a manifest by tag or digest, as it was pushed. If `reference` is a digest, the bytes are
    /// verified.
    ///
    /// # Errors
    /// Any [`ReadError`]. [`ReadError::Odd`] if the manifest is larger than `limits.manifest`, is an HTML
    /// page, or does not match its digest.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, ReadError> {
        let path = path(&format!("/v2/{repository}/manifests/{reference}"))?;
        let answer = self.get(Method::GET, &path, &pull(repository), Some(ACCEPTED)).await?;
        let html = is_html(&answer);
        let body =
            read_body(answer, self.manifest_max).await.map_err(|error| ReadError::Odd(error.to_string()))?;
        if html {
            return Err(ReadError::Odd("the answer is an HTML page instead of a manifest".to_owned()));
        }
        if let Ok(digest) = reference.parse::<Digest>()
            && Digest::of(&body) != digest
        {
            return Err(ReadError::Odd(format!("the registry gave another manifest than {digest}")));
        }
        Ok(body.into())
    }

    /// Reads a page of the repositories that the account may read: the first page, or the page `next` of an
    /// earlier page.
    ///
    /// # Errors
    /// Any [`ReadError`]. [`ReadError::Odd`] if the body is not a list.
    pub async fn repositories(&self, next: Option<&PathAndQuery>) -> Result<Page, ReadError> {
        let first = path(&format!("/v2/_catalog?n={PAGE}"))?;
        self.page(next.unwrap_or(&first), &self.catalog()).await
    }

    /// Reads a page of a repository's tags: the first page, or the page `next` of an earlier page.
    ///
    /// # Errors
    /// Any [`ReadError`]. [`ReadError::Odd`] if the body is not a list.
    pub async fn tags(&self, repository: &str, next: Option<&PathAndQuery>) -> Result<Page, ReadError> {
        let first = path(&format!("/v2/{repository}/tags/list?n={PAGE}"))?;
        self.page(next.unwrap_or(&first), &pull(repository)).await
    }

    /// Whether the registry says that a blob belongs to a repository. A 404 means that it does not.
    ///
    /// # Errors
    /// Any [`ReadError`], if the answer is neither a permission nor a 404.
    pub async fn has(&self, repository: &str, digest: &Digest) -> Result<bool, ReadError> {
        let path = path(&format!("/v2/{repository}/blobs/{digest}"))?;
        match self.send(Method::HEAD, &path, &pull(repository), None).await? {
            answer if self.registry.permits(answer.status(), answer.headers(), digest) => Ok(true),
            answer if answer.status() == StatusCode::NOT_FOUND => Ok(false),
            answer => Err(ReadError::of(answer).await),
        }
    }

    /// Reads a blob from the registry. Redirects are followed without credentials. The bytes are not
    /// verified.
    ///
    /// # Errors
    /// Any [`ReadError`].
    pub async fn blob(&self, repository: &str, digest: &Digest) -> Result<FetchedBlob, ReadError> {
        let authorization = self.tokens.authorization(&pull(repository)).await?;
        let client = self.client.within(self.blob_bound);
        match client.blob(repository, digest, authorization.as_ref()).await {
            Ok(blob) => Ok(blob),
            Err(error) => Err(ReadError::of_fetch(&client, error).await),
        }
    }

    async fn page(&self, path: &PathAndQuery, scope: &Scope) -> Result<Page, ReadError> {
        let answer = self.get(Method::GET, path, scope, None).await?;
        let headers = answer.headers().clone();
        let body = read_body(answer, PAGE_MAX).await.map_err(|error| ReadError::Odd(error.to_string()))?;
        Page::of(&headers, &body)
            .map_err(|error| ReadError::Odd(format!("the answer is not a list of names: {error}")))
    }

    /// Returns the answer if it is a 200.
    async fn get(
        &self,
        method: Method,
        path: &PathAndQuery,
        scope: &Scope,
        accept: Option<&'static str>,
    ) -> Result<Answer, ReadError> {
        let answer = self.send(method, path, scope, accept).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(ReadError::of(answer).await),
        }
    }

    /// Returns the answer. If the registry does not accept the current token, tries once with a new one.
    async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        scope: &Scope,
        accept: Option<&'static str>,
    ) -> Result<Answer, ReadError> {
        let answer = self.send_once(method.clone(), path, scope, accept).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.tokens.forget(scope) {
            return Ok(answer);
        }
        drop(answer);
        self.send_once(method, path, scope, accept).await
    }

    async fn send_once(
        &self,
        method: Method,
        path: &PathAndQuery,
        scope: &Scope,
        accept: Option<&'static str>,
    ) -> Result<Answer, ReadError> {
        let mut headers = self.tokens.headers(scope).await?;
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        Ok(self.client.send(method, path, headers).await?)
    }
}

fn pull(repository: &str) -> Scope {
    Scope::Pull(repository.to_owned())
}

/// Names come from manifests and lists, and not every name can be part of a path.
fn path(text: &str) -> Result<PathAndQuery, ReadError> {
    text.parse().map_err(|_| ReadError::Odd("a name that cannot be part of a path".to_owned()))
}

fn is_html(answer: &Answer) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("html"))
}

#[cfg(test)]
mod tests;
