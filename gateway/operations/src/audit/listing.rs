//! Lists the objects of one zone below one prefix.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Backoff;
use backends::{Error, Kind, Store};
use futures_util::TryStreamExt as _;

use super::compare::ListedBlob;
use super::layout::Layout;
use super::tally::Count;

/// The most blobs of a zone below one prefix. Each takes 40 bytes of memory, and 256 million blobs fit in a zone.
/// If a zone has more, the audit fails.
pub(super) const OBJECTS_MAX: usize = 1_000_000;

/// The most objects below one prefix that are not blobs. Their keys are in memory, 1 KiB each at most.
const STRAYS_MAX: usize = 10_000;

/// How often a listing is tried.
const TRIES: u32 = 5;

/// The delays between tries. A store's `Retry-After` counts up to the longest.
const WAITS: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };

/// The objects below a prefix.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) seen: Vec<ListedBlob>,
    pub(super) blobs: Count,
    /// Keys of objects that are not blobs, and their bytes.
    pub(super) strays: Vec<(String, u64)>,
}

/// Why a zone could not be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// The store failed after all tries. Retry later.
    #[error("{0}")]
    Store(Error),
    /// There are more blobs than fit in memory. Retrying does not help.
    #[error("there are more than {OBJECTS_MAX} blobs below {0}, which is more than an audit can list")]
    TooMany(String),
    /// There are more objects that are not blobs than fit in memory. Retrying does not help.
    #[error(
        "more than {STRAYS_MAX} objects below {0} are not blobs, which is more than an audit can list: remove them"
    )]
    TooManyStrays(String),
}

/// Lists the blobs whose digest begins with `first`. Blobs that were written at `recent` or later are marked.
///
/// # Errors
/// The store fails after all tries, or there are too many objects.
pub(super) async fn list(
    store: &Arc<dyn Store>,
    layout: &Layout,
    first: u8,
    recent: Option<SystemTime>,
) -> Result<Listing, ListError> {
    let prefix = layout.prefix(first);
    let mut tried = 0;
    loop {
        match once(store, layout, &prefix, recent).await {
            Err(ListError::Store(error)) if error.is_transient() && tried + 1 < TRIES => {
                tokio::time::sleep(wait(&error, tried)).await;
            }
            done => return done,
        }
        tried += 1;
    }
}

/// How long to wait after an error.
pub(super) fn wait(error: &Error, tried: u32) -> Duration {
    let asked = match error.kind() {
        Kind::Throttled { retry_after } => retry_after,
        _ => None,
    };
    WAITS.delay(tried, 1.0, asked)
}

async fn once(
    store: &Arc<dyn Store>,
    layout: &Layout,
    prefix: &str,
    recent: Option<SystemTime>,
) -> Result<Listing, ListError> {
    let mut found = store.list(prefix);
    let mut listing = Listing::default();
    while let Some(meta) = found.try_next().await.map_err(ListError::Store)? {
        match layout.digest(&meta.key) {
            Some(digest) => {
                if listing.seen.len() >= OBJECTS_MAX {
                    return Err(ListError::TooMany(prefix.to_owned()));
                }
                let recent = recent.zip(meta.modified).is_some_and(|(recent, modified)| modified >= recent);
                listing.blobs.add(meta.size);
                listing.seen.push(ListedBlob { digest, size: meta.size, recent });
            }
            None if listing.strays.len() >= STRAYS_MAX => {
                return Err(ListError::TooManyStrays(prefix.to_owned()));
            }
            None => listing.strays.push((meta.key.as_str().to_owned(), meta.size)),
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use backends::Key;
    use backends::memory::MemoryStore;

    use super::super::layout::tests::layout;
    use super::*;
    use config::RegistryKind;

    #[tokio::test]
    async fn strays_have_a_limit_of_their_own() {
        let store = MemoryStore::new();
        for n in 0..STRAYS_MAX {
            store.insert(Key::new(format!("sha256/ab/{n}")), &b"x"[..]);
        }
        let (store, layout): (Arc<dyn Store>, _) = (Arc::new(store), layout(RegistryKind::Quay));
        let listed = list(&store, &layout, 0xab, None).await.expect("as many as may be");
        assert_eq!(listed.strays.len(), STRAYS_MAX);
        let more = MemoryStore::new();
        for n in 0..=STRAYS_MAX {
            more.insert(Key::new(format!("sha256/ab/{n}")), &b"x"[..]);
        }
        let more: Arc<dyn Store> = Arc::new(more);
        let refused = list(&more, &layout, 0xab, None).await.expect_err("too many");
        assert!(matches!(refused, ListError::TooManyStrays(_)), "{refused}");
    }
}
