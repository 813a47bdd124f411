//! Sizes that somebody named and bytes contradicted: the digest decides, not the size.

use backends::{ByteStream, Digest};
use futures_util::{StreamExt, stream};
use moka::sync::Cache;

use crate::metrics::Metrics;

/// Digests whose true size is remembered because somebody named another.
const DIGESTS_MAX: u64 = 10_000;

/// True sizes of blobs of which somebody named another.
#[derive(Debug)]
pub(crate) struct Sizes {
    proven: Cache<Digest, u64>,
    /// What was logged already.
    told: Cache<(Digest, &'static str), ()>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { proven: Cache::new(DIGESTS_MAX), told: Cache::new(DIGESTS_MAX) }
    }
}

impl Sizes {
    /// The size of a blob in bytes, where bytes that hash right have contradicted somebody.
    pub(crate) fn proven(&self, digest: &Digest) -> Option<u64> {
        self.proven.get(digest)
    }

    /// `who` said that the blob has `said` bytes; `size` bytes have its digest.
    pub(crate) fn contradicted(
        &self,
        metrics: &Metrics,
        digest: Digest,
        who: &'static str,
        said: u64,
        size: u64,
    ) {
        self.proven.insert(digest, size);
        if self.told.entry((digest, who)).or_insert(()).is_fresh() {
            metrics.size_contradicted(who);
            tracing::error!(%digest, who, said, size, "a wrong size was named for a blob: its bytes have the right digest, and another length");
        }
    }
}

/// A body, with something done when it ends without an error.
pub(crate) fn when_proven(body: ByteStream, done: impl FnOnce() + Send + 'static) -> ByteStream {
    stream::unfold((body, Some(done)), |(mut body, done)| async move {
        match body.next().await {
            Some(Ok(bytes)) => Some((Ok(bytes), (body, done))),
            Some(Err(error)) => Some((Err(error), (body, None))),
            None => {
                if let Some(done) = done {
                    done();
                }
                None
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backends::{Error, Kind};
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn done_only_at_a_right_end() {
        for (last, expected) in [(Ok(Bytes::new()), 1), (Err(Error::new(Kind::Corrupt, "wrong")), 0)] {
            let count = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&count);
            let body = stream::iter([Ok(Bytes::from_static(b"a")), last]).boxed();
            let body = when_proven(body, move || {
                seen.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(body.collect::<Vec<_>>().await.len(), 2);
            assert_eq!(count.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn the_right_size_is_remembered_and_told_once() {
        let (sizes, metrics) = (Sizes::default(), Metrics::new(&[]));
        assert_eq!(sizes.proven(&Digest::EMPTY), None);
        for _ in 0..2 {
            sizes.contradicted(&metrics, Digest::EMPTY, "registry", 5, 0);
        }
        assert_eq!(sizes.proven(&Digest::EMPTY), Some(0));
        assert_eq!(metrics.sizes_contradicted("registry"), 1);
    }
}
