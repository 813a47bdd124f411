//! Reads manifests as a client of a registry.

use anyhow::{Context as _, bail, ensure};
use backends::Digest;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::ImageName;
use registry::service_account::{ACCEPTED, Scope, Tokens};
use registry::{RegistryClient, describe, read_body};

/// A manifest or an index.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// The digest of the bytes.
    pub(crate) digest: Digest,
    /// The media type that the server names.
    pub(crate) media_type: String,
    /// The bytes as they were pushed.
    pub(crate) bytes: Bytes,
}

/// Reads a manifest, as it was pushed. If `reference` is a digest, the bytes are verified.
///
/// # Errors
/// The image does not exist or may not be read, the answer is not a manifest or has more than `max` bytes, or the
/// server fails. The text says what to do.
pub(crate) async fn read_manifest(
    client: &RegistryClient,
    tokens: &Tokens,
    image: &ImageName,
    reference: &str,
    max: usize,
) -> anyhow::Result<Manifest> {
    let path = format!("/v2/{}/manifests/{reference}", image.repository);
    let mut headers = tokens.headers(&Scope::Pull(image.repository.clone())).await?;
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let answer = client.get(&path, headers).await?;
    let status = answer.status();
    if status != StatusCode::OK {
        let who = tokens.who();
        let said = describe(answer).await;
        match status {
            StatusCode::NOT_FOUND => {
                bail!("there is no image {image} at the registry ({said}): check its tags")
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
                "{who} may not read {}, or there is no such repository ({said}): give an account that may read it, \
                 with --username and --password-file, or as registry.account in the configuration",
                image.repository
            ),
            _ => bail!("{image}: the registry's answer for its manifest is {said}: check the registry's log"),
        }
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let html = kind.contains("html");
    let media_type = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let body = read_body(answer, max).await.with_context(|| format!("{image}: its manifest"))?;
    ensure!(
        !html,
        "{image}: the answer is an HTML page instead of a manifest: the server at registry.url is not a registry"
    );
    let found = Digest::of(&body);
    if let Ok(digest) = reference.parse::<Digest>() {
        ensure!(found == digest, "{image}: the registry returned another manifest than {digest}");
    }
    Ok(Manifest { digest: found, media_type, bytes: body.into() })
}
