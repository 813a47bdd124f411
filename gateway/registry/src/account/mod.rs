//! The registry as the gateway reads it on its own behalf, as `registry.account`: manifests, tags,
//! repositories, and whether it still has a blob.

mod door;
mod page;
mod scope;
mod token;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

pub use door::{Door, Given, said, whole};
pub use page::Page;
pub use scope::Scope;
pub use token::Tokens;
pub use trouble::Trouble;

use crate::redirects::RedirectClient;
use crate::upstream::{Answer, Upstream};
use crate::{Names, Registry};
use config::{RegistryKind, Settings};

/// All types by name: without them Quay gives another manifest than was pushed.
pub const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json";

/// For the first byte of anything but a blob.
const ANSWER_BOUND: Duration = Duration::from_secs(15);

/// Names a page: Quay gives no more (`endpoints/v2/__init__.py:paginate`).
const PAGE: usize = 100;

/// Bytes of a page: 100 repositories of 512 bytes, and their quotes.
const PAGE_MAX: usize = 256 * 1024;

/// The registry, read as `registry.account`. One login at a time, and none for a while after one
/// that was refused.
#[derive(Debug)]
pub struct Reader {
    door: Door,
    tokens: Tokens,
    registry: Arc<dyn Registry>,
    kind: RegistryKind,
    manifest_max: usize,
    /// For a blob's first byte: a proxy-cache organisation fetches it first.
    blob_bound: Duration,
}

impl Reader {
    /// A reader over the gateway's own connections; `None` where no account is configured.
    ///
    /// # Errors
    /// The TLS policy is not usable.
    pub fn new(
        settings: &Settings,
        upstream: Arc<Upstream>,
        names: Names,
        follow: RedirectClient,
        registry: Arc<dyn Registry>,
        tls: &rustls::ClientConfig,
    ) -> anyhow::Result<Option<Self>> {
        let Some(account) = settings.account.clone() else { return Ok(None) };
        let door = Door::over(upstream, names, follow, settings);
        let tokens = Tokens::new(door.clone(), Some(account), tls)?;
        Ok(Some(Self {
            door: door.within(ANSWER_BOUND),
            tokens,
            registry,
            kind: settings.registry_kind,
            manifest_max: usize::try_from(settings.limits.manifest.as_u64()).unwrap_or(usize::MAX),
            blob_bound: settings.timeouts.registry_first_pull,
        }))
    }

    /// Whether the account may log in.
    ///
    /// # Errors
    /// It may not, or the registry does not say.
    pub async fn log_in(&self) -> Result<(), Trouble> {
        Ok(self.tokens.authorization(&self.catalog()).await.map(drop)?)
    }

    /// Has a token for the first of these repositories, if none is held, and by the same login for as many of
    /// those after it as one token bears: each login costs the registry a slow hash. Says whether it logged in.
    /// What fails here fails again, and is told, where the token is needed.
    pub async fn prepare(&self, repositories: &[String]) -> bool {
        let scopes: Vec<_> = repositories.iter().map(|repository| pull(repository)).collect();
        self.tokens.prepare(&scopes).await
    }

    /// What the account's list of repositories is asked with.
    fn catalog(&self) -> Scope {
        match self.kind {
            RegistryKind::Quay => Scope::Login,
            RegistryKind::Distribution => Scope::Catalog,
        }
    }

    /// A manifest by tag or digest, as it was pushed; proven where a digest names it.
    ///
    /// # Errors
    /// It is not had, or is larger than `limits.manifest`.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, Trouble> {
        let path = path(&format!("/v2/{repository}/manifests/{reference}"))?;
        let answer = self.get(Method::GET, &path, &pull(repository), Some(ACCEPTED)).await?;
        let html = is_html(&answer);
        let body =
            whole(answer, self.manifest_max).await.map_err(|error| Trouble::Odd(format!("{error:#}")))?;
        if html {
            return Err(Trouble::Odd("a page instead of a manifest".to_owned()));
        }
        if let Ok(digest) = reference.parse::<Digest>()
            && Digest::of(&body) != digest
        {
            return Err(Trouble::Odd(format!("another manifest than {digest}")));
        }
        Ok(body.into())
    }

    /// A page of repositories that the account may read; the first one, or what the one before it
    /// named.
    ///
    /// # Errors
    /// It is not had.
    pub async fn repositories(&self, next: Option<&PathAndQuery>) -> Result<Page, Trouble> {
        let first = path(&format!("/v2/_catalog?n={PAGE}"))?;
        self.page(next.unwrap_or(&first), &self.catalog()).await
    }

    /// A page of a repository's tags; the first one, or what the one before it named.
    ///
    /// # Errors
    /// It is not had.
    pub async fn tags(&self, repository: &str, next: Option<&PathAndQuery>) -> Result<Page, Trouble> {
        let first = path(&format!("/v2/{repository}/tags/list?n={PAGE}"))?;
        self.page(next.unwrap_or(&first), &pull(repository)).await
    }

    /// Whether the registry says of a blob that it is in this repository: a 404 is a no.
    ///
    /// # Errors
    /// It said neither.
    pub async fn has(&self, repository: &str, digest: &Digest) -> Result<bool, Trouble> {
        let path = path(&format!("/v2/{repository}/blobs/{digest}"))?;
        match self.send(Method::HEAD, &path, &pull(repository), None).await? {
            answer if self.registry.permits(answer.status(), answer.headers(), digest) => Ok(true),
            answer if answer.status() == StatusCode::NOT_FOUND => Ok(false),
            answer => Err(Trouble::of(answer).await),
        }
    }

    /// A blob as the registry itself gives it, its bytes unproven; redirects are followed as nobody.
    ///
    /// # Errors
    /// It is not had.
    pub async fn blob(&self, repository: &str, digest: &Digest) -> Result<Given, Trouble> {
        let authorization = self.tokens.authorization(&pull(repository)).await?;
        let door = self.door.within(self.blob_bound);
        door.blob(repository, digest, authorization.as_ref()).await.map_err(Trouble::Busy)
    }

    async fn page(&self, path: &PathAndQuery, scope: &Scope) -> Result<Page, Trouble> {
        let answer = self.get(Method::GET, path, scope, None).await?;
        let headers = answer.headers().clone();
        let body = whole(answer, PAGE_MAX).await.map_err(|error| Trouble::Odd(format!("{error:#}")))?;
        Page::of(&headers, &body).map_err(|error| Trouble::Odd(format!("a list that is none: {error}")))
    }

    /// What it gives with a 200.
    async fn get(
        &self,
        method: Method,
        path: &PathAndQuery,
        scope: &Scope,
        accept: Option<&'static str>,
    ) -> Result<Answer, Trouble> {
        let answer = self.send(method, path, scope, accept).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(Trouble::of(answer).await),
        }
    }

    /// What it answers; with a new token where it does not take the one that was held.
    async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        scope: &Scope,
        accept: Option<&'static str>,
    ) -> Result<Answer, Trouble> {
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
    ) -> Result<Answer, Trouble> {
        let mut headers = self.tokens.headers(scope).await?;
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        self.door.send(method, path, headers).await.map_err(Trouble::Busy)
    }
}

fn pull(repository: &str) -> Scope {
    Scope::Pull(repository.to_owned())
}

/// Names come from manifests and lists: not all of them make paths.
fn path(text: &str) -> Result<PathAndQuery, Trouble> {
    text.parse().map_err(|_| Trouble::Odd("a name that makes no path".to_owned()))
}

fn is_html(answer: &Answer) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("html"))
}

#[cfg(test)]
mod tests;
