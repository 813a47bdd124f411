//! Which blobs are the largest and the most used.

use backends::Digest;

use crate::cache::Cache;

/// The entries that are looked at before the lock is released for a moment, so that no lookup waits for long.
const ENTRIES_AT_ONCE: usize = 2048;

/// A blob of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedBlobFacts {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// How often it was looked up since it came into the cache, or since the start.
    pub uses: u64,
}

/// The blobs that stand out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Census {
    /// The largest blobs, the largest first.
    pub largest: Vec<CachedBlobFacts>,
    /// The most used blobs, the most used first.
    pub hottest: Vec<CachedBlobFacts>,
}

/// The best few by a key.
struct Best {
    /// In descending order of the key.
    kept: Vec<(u64, CachedBlobFacts)>,
    most: usize,
}

impl Best {
    fn new(most: usize) -> Self {
        Self { kept: Vec::with_capacity(most + 1), most }
    }

    /// Takes a blob in, if it is among the best. A blob that comes again replaces what was known of it.
    fn offer(&mut self, key: u64, facts: CachedBlobFacts) {
        self.kept.retain(|(_, kept)| kept.digest != facts.digest);
        let place = self.kept.partition_point(|(kept, _)| *kept >= key);
        if place < self.most {
            self.kept.insert(place, (key, facts));
            self.kept.truncate(self.most);
        }
    }

    fn take(self) -> Vec<CachedBlobFacts> {
        self.kept.into_iter().map(|(_, facts)| facts).collect()
    }
}

impl Cache {
    /// The `most` largest and most used blobs. Walks over all blobs and releases the lock again and again, so the result
    /// is only nearly exact while the cache is used. Takes CPU in proportion to the number of blobs.
    #[must_use]
    pub fn census(&self, most: usize) -> Census {
        let (mut largest, mut hottest) = (Best::new(most), Best::new(most));
        let mut after = None;
        // A blob that is used meanwhile moves to the end of the order, and comes again.
        let mut left = self.space.lock().index().len().saturating_mul(2);
        while left > 0 {
            let piece = self.space.lock().index().in_order(after, ENTRIES_AT_ONCE.min(left));
            let Some((last, _)) = piece.last() else { break };
            (after, left) = (Some(*last), left - piece.len());
            for (_, facts) in piece {
                largest.offer(facts.size, facts);
                if facts.uses > 0 {
                    hottest.offer(facts.uses, facts);
                }
            }
        }
        Census { largest: largest.take(), hottest: hottest.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_few_and_each_is_there_once() {
        let mut best = Best::new(2);
        let facts = |byte: u8, uses| CachedBlobFacts { digest: Digest::of(&[byte]), size: 1, uses };
        for (byte, uses) in [(1, 5), (2, 9), (3, 7), (2, 10), (4, 1)] {
            best.offer(uses, facts(byte, uses));
        }
        assert_eq!(best.take(), [facts(2, 10), facts(3, 7)]);
        let mut none = Best::new(0);
        none.offer(1, facts(1, 1));
        assert_eq!(none.take(), []);
    }
}
