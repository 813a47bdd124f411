//! Reads one blob through the gateway, and says whether its cache has it now.

use std::time::Duration;

use async_trait::async_trait;
use backends::Hasher;
use bytes::Bytes;
use futures_util::StreamExt as _;
use registry::service_account::{Scope, Tokens};
use registry::{FetchedBlob, LocalBlob, Origin, RegistryClient};

/// How often a read is tried whose failure may be temporary.
const TRIES: u32 = 3;

/// The pause before the second try. It doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// The reason in `Cache-Status` if a full cache does not keep a blob before it is asked for again.
const ASKED_ONCE: &str = "asked-once";

/// Where the bytes of a blob go.
#[async_trait]
pub(crate) trait Sink: Send {
    /// A read begins, perhaps again.
    async fn begin(&mut self) -> anyhow::Result<()>;
    /// The next bytes.
    async fn take(&mut self, bytes: &Bytes) -> anyhow::Result<()>;
}

/// A blob that was read, with the right digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobRead {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Whether the gateway's cache has it.
    pub(crate) kept: Kept,
}

/// Whether the gateway's cache has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It had it before.
    Before,
    /// It has it now.
    Now,
    /// It does not keep it, for this reason.
    No(String),
}

/// Why a read failed.
struct Failed {
    why: anyhow::Error,
    may_retry: bool,
}

/// Reads a blob and verifies its digest. A failure that may be temporary is tried again. If the cache is full and keeps
/// only what is asked for again, the blob is asked for again.
///
/// # Errors
/// The gateway does not give the blob, gives wrong bytes, or the sink fails. The text says what to do.
pub(crate) async fn read_blob(
    client: &RegistryClient,
    tokens: &Tokens,
    repository: &str,
    blob: &LocalBlob,
    sink: &mut dyn Sink,
) -> anyhow::Result<BlobRead> {
    let (mut tries, mut again) = (1, true);
    loop {
        match read_once(client, tokens, repository, blob, sink).await {
            Ok(BlobRead { kept: Kept::No(why), .. }) if again && why == ASKED_ONCE => again = false,
            Ok(read) => return Ok(read),
            Err(Failed { may_retry: true, .. }) if tries < TRIES => {
                tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
                tries += 1;
            }
            Err(Failed { why, .. }) => return Err(why),
        }
    }
}

async fn read_once(
    client: &RegistryClient,
    tokens: &Tokens,
    repository: &str,
    blob: &LocalBlob,
    sink: &mut dyn Sink,
) -> Result<BlobRead, Failed> {
    let lasting = |why: anyhow::Error| Failed { why, may_retry: false };
    let scope = Scope::Pull(repository.to_owned());
    let authorization = tokens.authorization(&scope).await.map_err(|error| lasting(error.into()))?;
    let fetched = match client.blob(repository, &blob.digest, authorization.as_ref()).await {
        Ok(fetched) => fetched,
        Err(error) => {
            let may_retry = error.may_retry();
            let why = anyhow::anyhow!("{} of {repository}: {}", blob.digest, client.explain(error).await);
            return Err(Failed { why, may_retry });
        }
    };
    let FetchedBlob { mut body, from, .. } = fetched;
    sink.begin().await.map_err(lasting)?;
    let mut hasher = Hasher::new();
    while let Some(piece) = body.next().await {
        let cut = |error| Failed {
            why: anyhow::anyhow!(
                "{} of {repository}: the gateway's answer ended early: {error}",
                blob.digest
            ),
            may_retry: true,
        };
        let piece = piece.map_err(cut)?;
        hasher.update(&piece);
        sink.take(&piece).await.map_err(lasting)?;
    }
    let size = hasher.bytes();
    if hasher.finish() != blob.digest {
        let why = format!(
            "{} of {repository}: {size} bytes came, and their digest is another: something between here and the gateway \
             changes bytes",
            blob.digest
        );
        return Err(lasting(anyhow::anyhow!(why)));
    }
    let kept = match from {
        Origin::Registry(status) => kept(status.as_deref()),
        Origin::Store(place) => Kept::No(format!("the answer leads to {place}, past the gateway")),
    };
    Ok(BlobRead { size, kept })
}

/// What the gateway's `Cache-Status` says (RFC 9211): `quay-gateway; hit`, `…; fwd=miss; stored; detail="zone=a"` or
/// `…; fwd=miss; detail="zone=a, not stored: disk"`.
fn kept(status: Option<&str>) -> Kept {
    let Some(status) = status else {
        return Kept::No("the answer has no Cache-Status, so it is perhaps not the gateway's".to_owned());
    };
    if let Some((_, why)) = status.split_once("not stored: ") {
        return Kept::No(why.split('"').next().unwrap_or_default().to_owned());
    }
    let has = |word: &str| status.split(';').skip(1).any(|parameter| parameter.trim() == word);
    match (has("hit"), has("stored")) {
        (true, _) => Kept::Before,
        (_, true) => Kept::Now,
        (false, false) => Kept::No(format!("its Cache-Status is {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_status_says_whether_the_blob_is_kept() {
        let no = |why: &str| Kept::No(why.to_owned());
        for (status, expected) in [
            ("quay-gateway; hit", Kept::Before),
            ("quay-gateway; fwd=miss; stored; detail=\"zone=a\"", Kept::Now),
            ("quay-gateway; fwd=miss; collapsed; stored; detail=\"registry\"", Kept::Now),
            ("quay-gateway; fwd=miss; detail=\"zone=a, not stored: asked-once\"", no("asked-once")),
            ("quay-gateway; fwd=miss", no("its Cache-Status is quay-gateway; fwd=miss")),
        ] {
            assert_eq!(kept(Some(status)), expected, "{status}");
        }
        assert!(matches!(kept(None), Kept::No(_)));
    }
}
