//! Checks for every store that are not part of the conformance suite, because they need a store with a wrong
//! configuration.

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Kind, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

/// A store that refuses our credentials, or whose bucket is missing, must not look like one without the
/// object: no client may be told that a blob does not exist.
pub(crate) async fn is_denied(why: &str, store: &dyn Store) -> Result<()> {
    reads_are_denied(why, store).await?;
    let source = Source::bytes(Bytes::from_static(b"hello"));
    let put = store.put(&Key::new("absent"), &source).await;
    let error = put.err().with_context(|| format!("{why}: a put succeeded"))?;
    ensure!(error.kind() == Kind::Denied, "{why}: put: {error}");
    Ok(())
}

/// Like [`is_denied`], for servers where a put would create the bucket.
pub(crate) async fn reads_are_denied(why: &str, store: &dyn Store) -> Result<()> {
    for (what, error) in outcomes(store).await {
        let error = error.with_context(|| format!("{why}: {what} succeeded"))?;
        ensure!(error.kind() == Kind::Denied, "{why}: {what}: {error}");
    }
    Ok(())
}

async fn outcomes(store: &dyn Store) -> [(&'static str, Option<backends::Error>); 4] {
    let key = Key::new("absent");
    [
        ("HEAD", store.head(&key).await.err()),
        ("GET", store.get(&key, None).await.err()),
        ("GET of a range", store.get(&key, Some(0..1)).await.err()),
        ("a probe", store.probe().await.err()),
    ]
}

/// The bytes of an object.
pub(crate) async fn read(store: &dyn Store, key: &Key) -> Result<Option<Bytes>> {
    let Some(object) = store.get(key, None).await? else { return Ok(None) };
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(Some(pieces.concat().into()))
}

/// Checks that an object has exactly these bytes.
pub(crate) async fn holds(store: &dyn Store, key: &Key, bytes: &Bytes) -> Result<()> {
    let read = read(store, key).await?.with_context(|| format!("{key} is not there"))?;
    ensure!(sha256(&read) == sha256(bytes), "{key}: other bytes: {} of {}", read.len(), bytes.len());
    Ok(())
}

/// SHA-256, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes without repetition.
pub(crate) fn noise(seed: u64, size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    Bytes::from(bytes)
}
