//! A registry client that behaves like a container engine: bearer tokens, pushes, verified pulls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use backends::{Digest, Hasher};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use tokio_util::io::ReaderStream;
use url::Url;

use crate::image::{Blob, Content, Image, Manifest};

/// The manifest types that podman and skopeo accept.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The maximum number of redirects for one blob.
const REDIRECTS: usize = 5;
/// Bytes of a file that are sent at a time.
const PIECE: usize = 256 * 1024;

/// A client of one registry.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    login: Option<(String, String)>,
    /// The tokens, by their scope.
    tokens: Mutex<HashMap<String, String>>,
    moved: Arc<AtomicU64>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A blob that was pulled and verified.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The digest.
    pub digest: Digest,
    /// The number of bytes that arrived.
    pub size: u64,
    /// `Cache-Status` of the answer, if it has one.
    pub cache_status: Option<String>,
    /// The host and port that sent the bytes.
    pub from: String,
    /// The time to the first byte.
    pub first_byte: Duration,
    /// The time to the last byte.
    pub total: Duration,
}

/// An answer that was read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header as text. Empty if there is no such header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// A client of the registry at `base`, such as `https://localhost:8443`, that trusts only `roots` (PEM).
    ///
    /// # Errors
    /// A root or the address is not valid.
    pub fn new(base: &str, roots: &[&str], login: Option<(&str, &str)>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::certs::client_config(roots)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        Ok(Self { http, base: base.parse()?, login, tokens: Mutex::default(), moved: Arc::default() })
    }

    /// The bytes of blobs that were sent and received so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// A request without a token. `target` is a path with a query, or an absolute URL.
    ///
    /// # Errors
    /// `target` is not valid in a URL.
    pub fn raw(&self, method: Method, target: &str) -> Result<reqwest::RequestBuilder> {
        Ok(self.http.request(method, self.base.join(target)?))
    }

    /// Sends a request. If the registry asks for a token, the client fetches one and sends the request again.
    ///
    /// # Errors
    /// The connection fails, or no token is given.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<reqwest::Response> {
        let scope = scope_of(target, &method);
        self.send_as(&scope, method, target, headers, body).await
    }

    async fn send_as(
        &self,
        scope: &str,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<reqwest::Response> {
        let build = |token: Option<&str>| -> Result<reqwest::RequestBuilder> {
            let mut request = self.raw(method.clone(), target)?.body(body.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            Ok(authorized(request, token))
        };
        let known = self.known_token(scope);
        let response = build(known.as_deref())?.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::UNAUTHORIZED || known.is_some() {
            return Ok(response);
        }
        let Some(token) = self.token(response.headers(), scope).await? else { return Ok(response) };
        self.tokens.lock().insert(scope.to_owned(), token.clone());
        build(Some(&token))?.send().await.map_err(|error| error.without_url().into())
    }

    fn known_token(&self, scope: &str) -> Option<String> {
        self.tokens.lock().get(scope).cloned()
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// The connection fails or breaks.
    pub async fn fetch(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let response = self.send(method, target, headers, Bytes::new()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await.map_err(reqwest::Error::without_url)? })
    }

    /// Fetches a token as the challenge asks for it.
    async fn token(&self, headers: &HeaderMap, scope: &str) -> Result<Option<String>> {
        let Some(challenge) = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()) else {
            return Ok(None);
        };
        let part = |name: &str| {
            challenge.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next())
        };
        let (Some(realm), Some(service)) = (part("realm"), part("service")) else { return Ok(None) };
        let mut url: Url = realm.parse().context("the token realm")?;
        url.query_pairs_mut().append_pair("service", service);
        if !scope.is_empty() {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let mut request = self.http.get(url);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        if !response.status().is_success() {
            bail!("no token: {}", response.status());
        }
        let json: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
        Ok(json["token"].as_str().map(str::to_owned))
    }

    /// Pushes an image: the missing blobs, then the manifest as `reference`.
    ///
    /// # Errors
    /// The registry refuses a part of it.
    pub async fn push(&self, repository: &str, reference: &str, image: &Image) -> Result<()> {
        for blob in image.blobs() {
            self.push_blob(repository, blob).await?;
        }
        self.push_manifest(repository, reference, &image.manifest).await
    }

    /// Pushes a blob with POST, PATCH and PUT, unless the registry has it.
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        // All requests use the token for pushes, because the request for that token creates a new repository.
        let scope = scope_of(&target, &Method::PUT);
        let there = self.send_as(&scope, Method::HEAD, &target, &[], Bytes::new()).await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let started =
            self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), &[], Bytes::new()).await?;
        ensure!(started.status() == StatusCode::ACCEPTED, "POST upload: {}", started.status());
        let location = location(&started)?;
        let token = self.known_token(&scope);
        let (length, body) = match blob.content.as_ref().context("a blob with bytes")? {
            Content::Memory(bytes) => {
                self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                (bytes.len() as u64, reqwest::Body::from(bytes.clone()))
            }
            Content::File(path) => {
                let file = tokio::fs::File::open(path).await?;
                let length = file.metadata().await?.len();
                let moved = Arc::clone(&self.moved);
                let pieces = ReaderStream::with_capacity(file, PIECE).inspect_ok(move |piece| {
                    moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
                });
                (length, reqwest::Body::wrap_stream(pieces))
            }
        };
        let patch = self
            .raw(Method::PATCH, &location)?
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length);
        let patched = authorized(patch, token.as_deref())
            .body(body)
            .send()
            .await
            .map_err(reqwest::Error::without_url)?;
        ensure!(patched.status() == StatusCode::ACCEPTED, "PATCH upload: {}", patched.status());
        let mut last: Url = self.base.join(&self::location(&patched)?)?;
        last.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let put = self.send(Method::PUT, last.as_str(), &[], Bytes::new()).await?;
        ensure!(put.status() == StatusCode::CREATED, "PUT upload: {}", put.status());
        Ok(())
    }

    /// Pushes a manifest as `reference`, a tag or its digest.
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn push_manifest(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<()> {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("content-type", manifest.media_type.as_str())];
        let put = self.send(Method::PUT, &target, &headers, manifest.bytes.clone()).await?;
        let status = put.status();
        if status != StatusCode::CREATED {
            bail!("PUT manifest: {status} {}", put.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// Pulls a manifest by tag or digest, with unchanged bytes.
    ///
    /// # Errors
    /// There is no such manifest, or its digest is wrong.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Manifest> {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.fetch(Method::GET, &target, &[(ACCEPT.as_str(), MANIFEST_TYPES)]).await?;
        ensure!(answer.status == StatusCode::OK, "GET manifest: {}", answer.status);
        let manifest = Manifest::new(answer.header("content-type"), answer.body.clone());
        ensure!(
            answer.header("docker-content-digest") == manifest.digest.to_string(),
            "the manifest has another digest"
        );
        Ok(manifest)
    }

    /// Pulls an image: the manifest, the config, and the layers that the registry has, one after the other.
    ///
    /// # Errors
    /// A part is missing or wrong.
    pub async fn pull(&self, repository: &str, reference: &str) -> Result<Vec<Pulled>> {
        let manifest = self.manifest(repository, reference).await?;
        let json: serde_json::Value = serde_json::from_slice(&manifest.bytes)?;
        let layers = json["layers"].as_array().context("an image manifest")?;
        let mut pulled = Vec::new();
        for descriptor in
            [&json["config"]].into_iter().chain(layers.iter().filter(|layer| layer.get("urls").is_none()))
        {
            let digest = descriptor["digest"].as_str().unwrap_or_default().parse()?;
            pulled.push(self.pull_blob(repository, &digest).await?);
        }
        Ok(pulled)
    }

    /// Pulls a blob and verifies it. Redirects are followed without the token.
    ///
    /// # Errors
    /// The blob does not arrive complete and correct.
    pub async fn pull_blob(&self, repository: &str, digest: &Digest) -> Result<Pulled> {
        let start = Instant::now();
        let mut response =
            self.send(Method::GET, &format!("/v2/{repository}/blobs/{digest}"), &[], Bytes::new()).await?;
        let mut redirects = 0;
        while response.status().is_redirection() && redirects < REDIRECTS {
            let target = response.url().join(&location(&response)?)?;
            response = self.http.get(target).send().await.map_err(reqwest::Error::without_url)?;
            redirects += 1;
        }
        ensure!(response.status() == StatusCode::OK, "GET blob: {}", response.status());
        let cache_status =
            response.headers().get("cache-status").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let from = response.url().authority().to_owned();
        let mut hasher = Hasher::new();
        let mut first_byte = None;
        let mut bytes = response.bytes_stream();
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(reqwest::Error::without_url)?;
            first_byte.get_or_insert_with(|| start.elapsed());
            self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            hasher.update(&piece);
        }
        let (size, total) = (hasher.bytes(), start.elapsed());
        ensure!(hasher.finish() == *digest, "blob {digest} came with wrong bytes");
        Ok(Pulled {
            digest: *digest,
            size,
            cache_status,
            from,
            first_byte: first_byte.unwrap_or(total),
            total,
        })
    }
}

fn authorized(request: reqwest::RequestBuilder, token: Option<&str>) -> reqwest::RequestBuilder {
    match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

fn location(response: &reqwest::Response) -> Result<String> {
    let value = response.headers().get(LOCATION).context("no Location")?;
    Ok(value.to_str()?.to_owned())
}

/// The scope that a request to `target` needs. Clients use one scope per repository and kind of access.
fn scope_of(target: &str, method: &Method) -> String {
    let path =
        target.split_once("://").map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(rest.len())..]);
    let path = path.split('?').next().unwrap_or_default();
    let Some(rest) = path.strip_prefix("/v2/") else { return String::new() };
    let end =
        ["/blobs/", "/manifests/", "/tags/", "/referrers/"].iter().filter_map(|word| rest.rfind(word)).max();
    let Some(end) = end else { return String::new() };
    let push = !matches!(*method, Method::GET | Method::HEAD);
    format!("repository:{}:{}", &rest[..end], if push { "pull,push" } else { "pull" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        assert_eq!(scope_of("/v2/a/b/blobs/uploads/?x=/v2/", &Method::POST), "repository:a/b:pull,push");
        assert_eq!(scope_of("https://h:1/v2/a/b/manifests/t", &Method::GET), "repository:a/b:pull");
        assert_eq!(scope_of("/v2/", &Method::GET), "");
    }
}
