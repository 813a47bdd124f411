//! Sizes that were named for a blob and that its bytes contradict. The digest decides which size is right.

use backends::Digest;
use moka::sync::Cache;

use crate::metrics::Metrics;

/// The number of digests for which the true size is remembered.
const DIGESTS_MAX: u64 = 10_000;

/// The true sizes of blobs for which a wrong size was named.
#[derive(Debug)]
pub(crate) struct ContradictedSizes {
    proven: Cache<Digest, u64>,
    /// The contradictions that were logged.
    logged: Cache<(Digest, &'static str), ()>,
}

impl Default for ContradictedSizes {
    fn default() -> Self {
        Self { proven: Cache::new(DIGESTS_MAX), logged: Cache::new(DIGESTS_MAX) }
    }
}

impl ContradictedSizes {
    /// The size of a blob in bytes, if proven bytes contradicted a size that was named for it.
    pub(crate) fn proven(&self, digest: &Digest) -> Option<u64> {
        self.proven.get(digest)
    }

    /// Records that `who` named `said` bytes for the blob, but that `size` bytes match its digest.
    pub(crate) fn note(&self, metrics: &Metrics, digest: Digest, who: &'static str, said: u64, size: u64) {
        self.proven.insert(digest, size);
        if self.logged.entry((digest, who)).or_insert(()).is_fresh() {
            metrics.size_contradicted(who);
            tracing::error!(%digest, who, said, size, "a wrong size was named for a blob: its bytes have the right digest, and another length");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_size_is_remembered_and_logged_once() {
        let (sizes, metrics) = (ContradictedSizes::default(), Metrics::new(&[]));
        assert_eq!(sizes.proven(&Digest::EMPTY), None);
        for _ in 0..2 {
            sizes.note(&metrics, Digest::EMPTY, "registry", 5, 0);
        }
        assert_eq!(sizes.proven(&Digest::EMPTY), Some(0));
        assert_eq!(metrics.sizes_contradicted("registry"), 1);
    }
}
