//! What the admin API does with the contents of the cache.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use backends::Digest;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio_util::io::ReaderStream;

use super::{AdminClient, error_text, parse};
use crate::reports::{CachePage, CachedReport, Evict, Evictions, Imported, VerifiedReport, Verify};

/// The blobs of one command.
const BLOBS_AT_ONCE: usize = 1000;

/// How long the hashing or the upload of one blob may take. A slow disk takes long for a large blob.
const BLOB_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// The bytes of one read of a file.
const PIECE: usize = 256 * 1024;

/// How often a blob is sent, if the gateway asks for it again.
const TRIES: u32 = 2;

impl AdminClient {
    /// All blobs of the cache, each once, in the order of their last use.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn cache_contents(&self) -> anyhow::Result<Vec<CachedReport>> {
        let (mut all, mut seen, mut after) = (Vec::new(), std::collections::HashSet::new(), None::<u64>);
        loop {
            let query: Vec<_> = after.iter().map(|after| ("after", after.to_string())).collect();
            let page: CachePage = self.get("cache/contents", &query).await?;
            all.extend(page.blobs.into_iter().filter(|blob| seen.insert(blob.digest.clone())));
            match page.next {
                // Blobs that are used move to the end, so pages need not end while clients pull.
                Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// Takes blobs out of the cache.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn evict(&self, digests: &[String]) -> anyhow::Result<Evictions> {
        let mut all = Evictions::default();
        for digests in digests.chunks(BLOBS_AT_ONCE) {
            match self.post("cache/evict", &Evict { digests: digests.into() }).await? {
                (status, body) if status.is_success() => all.add(parse(&body)?),
                (_, body) => bail!("{}", error_text(&body)),
            }
        }
        Ok(all)
    }

    /// Hashes the file of a blob.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn verify(&self, digest: &str) -> anyhow::Result<VerifiedReport> {
        let body = serde_json::to_vec(&Verify { digest: digest.to_owned() })?;
        let command = self.command(self.api("cache/verify")?).header(CONTENT_TYPE, "application/json");
        let answer = command.timeout(BLOB_TIMEOUT).body(body).send().await;
        parse(&self.success_body(answer).await?)
    }

    /// Puts a file into the cache.
    ///
    /// # Errors
    /// The file cannot be read, the gateway cannot be reached, or it does not take the blob.
    pub async fn import_blob(&self, digest: &Digest, file: &Path) -> anyhow::Result<Imported> {
        for tries in 1.. {
            let opened = tokio::fs::File::open(file).await;
            let opened = opened.with_context(|| format!("{}: cannot be read", file.display()))?;
            let length = opened.metadata().await?.len();
            let command = self.command(self.api(&format!("cache/import/{digest}"))?);
            let command =
                command.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
            let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(opened, PIECE));
            let answer = command.timeout(BLOB_TIMEOUT).body(body).send().await;
            let answer = answer.with_context(|| self.unreachable())?;
            let (status, body) = (answer.status(), answer.bytes().await?);
            match status {
                status if status.is_success() => return parse(&body),
                // A full cache keeps only what comes again.
                StatusCode::SERVICE_UNAVAILABLE if tries < TRIES => {}
                _ => bail!("{digest}: {}", error_text(&body)),
            }
        }
        bail!("{digest}: the gateway does not take it")
    }

    /// Tells the gateway of a manifest.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the manifest.
    pub async fn import_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: bytes::Bytes,
    ) -> anyhow::Result<()> {
        let mut url = self.api("cache/manifests")?;
        url.query_pairs_mut().append_pair("repository", repository).append_pair("reference", reference);
        let answer = self.command(url).header(CONTENT_TYPE, media_type).body(bytes).send().await;
        self.success_body(answer).await.map(drop)
    }
}
