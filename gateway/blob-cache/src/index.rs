//! The index of whole blobs, in the order of eviction. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backends::Digest;

use crate::census::CachedBlobFacts;
use crate::entry::Entry;

/// Whole blobs in the order of their last use.
#[derive(Debug, Default)]
pub(super) struct Index {
    blobs: HashMap<Digest, Indexed>,
    /// Blobs by their last use. The first is evicted next.
    order: BTreeMap<u64, Digest>,
    uses: u64,
    blocks: u64,
}

#[derive(Debug)]
struct Indexed {
    entry: Arc<Entry>,
    last_use: u64,
    /// How often it was looked up.
    lookups: u64,
}

impl Index {
    /// The blocks of all blobs.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The number of blobs.
    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Returns a blob. The lookup counts as a use.
    pub(super) fn get(&mut self, digest: &Digest) -> Option<Arc<Entry>> {
        let blob = self.blobs.get_mut(digest)?;
        self.order.remove(&blob.last_use);
        self.uses += 1;
        blob.last_use = self.uses;
        blob.lookups += 1;
        self.order.insert(self.uses, *digest);
        Some(Arc::clone(&blob.entry))
    }

    /// Returns a blob. The lookup does not count as a use.
    pub(super) fn peek(&self, digest: &Digest) -> Option<&Arc<Entry>> {
        self.blobs.get(digest).map(|blob| &blob.entry)
    }

    /// Adds a blob, as the most recently used one.
    pub(super) fn insert(&mut self, digest: Digest, entry: Arc<Entry>) {
        self.remove(&digest);
        self.uses += 1;
        self.blocks += entry.blocks();
        self.order.insert(self.uses, digest);
        self.blobs.insert(digest, Indexed { entry, last_use: self.uses, lookups: 0 });
    }

    /// Removes a blob.
    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.remove(digest) {
            self.order.remove(&blob.last_use);
            self.blocks -= blob.entry.blocks();
        }
    }

    /// At most `most` blobs in the order of their last use, each with its place in it, from the place after `after` on.
    pub(super) fn in_order(&self, after: Option<u64>, most: usize) -> Vec<(u64, CachedBlobFacts)> {
        let facts = |digest: &Digest, blob: &Indexed| CachedBlobFacts {
            digest: *digest,
            size: blob.entry.size,
            uses: blob.lookups,
        };
        let from = after.map_or(0, |after| after.saturating_add(1));
        self.order
            .range(from..)
            .filter_map(|(place, digest)| Some((*place, facts(digest, self.blobs.get(digest)?))))
            .take(most)
            .collect()
    }

    /// Removes the least recently used blob.
    pub(super) fn evict(&mut self) -> Option<Digest> {
        let (_, digest) = self.order.first_key_value()?;
        let digest = *digest;
        self.remove(&digest);
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut index = Index::default();
        let digests = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        for (digest, size) in digests.iter().zip([1, 4097, 8192]) {
            index.insert(*digest, Arc::new(Entry::proven(size)));
        }
        assert_eq!((index.len(), index.blocks()), (3, 5));
        assert!(index.get(&digests[0]).is_some() && index.peek(&digests[1]).is_some());
        index.insert(digests[2], Arc::new(Entry::proven(1)));
        assert_eq!((index.len(), index.blocks()), (3, 4));
        assert_eq!([index.evict(), index.evict()], [Some(digests[1]), Some(digests[0])]);
        index.remove(&digests[0]);
        assert_eq!((index.evict(), index.evict(), index.blocks()), (Some(digests[2]), None, 0));
        assert!(index.get(&digests[0]).is_none());
    }
}
