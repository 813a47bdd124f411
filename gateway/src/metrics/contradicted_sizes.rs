//! Sizes that somebody named and bytes contradicted: the digest decides, not the size.

use backends::Digest;
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

#[cfg(test)]
mod tests {
    use super::*;

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
