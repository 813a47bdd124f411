//! The index of whole blobs, in the order of eviction. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backends::Digest;

use crate::census::CachedBlobFacts;
use crate::contents::ListedBlob;
use crate::entry::Entry;

/// Whole blobs in the order of their last use.
#[derive(Debug, Default)]
pub(super) struct Index {
    blobs: HashMap<Digest, Indexed>,
    /// Blobs that are not pinned, by their last use. The first is evicted next.
    order: BTreeMap<u64, Digest>,
    /// Pinned blobs, by their last use. They are not evicted.
    pinned: BTreeMap<u64, Digest>,
    uses: u64,
    blocks: u64,
    pinned_blocks: u64,
}

#[derive(Debug)]
struct Indexed {
    entry: Arc<Entry>,
    last_use: u64,
    /// How often it was looked up.
    lookups: u64,
    pinned: bool,
}

impl Index {
    /// The blocks of all blobs.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The blocks of pinned blobs.
    pub(super) fn pinned_blocks(&self) -> u64 {
        self.pinned_blocks
    }

    /// The number of blobs.
    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Returns a blob. The lookup counts as a use.
    pub(super) fn get(&mut self, digest: &Digest) -> Option<Arc<Entry>> {
        let blob = self.blobs.get_mut(digest)?;
        let order = if blob.pinned { &mut self.pinned } else { &mut self.order };
        order.remove(&blob.last_use);
        self.uses += 1;
        blob.last_use = self.uses;
        blob.lookups += 1;
        order.insert(self.uses, *digest);
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
        self.blobs.insert(digest, Indexed { entry, last_use: self.uses, lookups: 0, pinned: false });
    }

    /// Pins a blob, so that it is not evicted, or unpins it.
    pub(super) fn set_pinned(&mut self, digest: &Digest, pinned: bool) {
        let Some(blob) = self.blobs.get_mut(digest).filter(|blob| blob.pinned != pinned) else { return };
        blob.pinned = pinned;
        let blocks = blob.entry.blocks();
        let (from, to) = match pinned {
            true => (&mut self.order, &mut self.pinned),
            false => (&mut self.pinned, &mut self.order),
        };
        from.remove(&blob.last_use);
        to.insert(blob.last_use, *digest);
        self.pinned_blocks = if pinned { self.pinned_blocks + blocks } else { self.pinned_blocks - blocks };
    }

    /// Whether a blob is here and pinned.
    pub(super) fn is_pinned(&self, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|blob| blob.pinned)
    }

    /// The pinned blobs.
    pub(super) fn pinned(&self) -> Vec<Digest> {
        self.pinned.values().copied().collect()
    }

    /// Removes a blob.
    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.remove(digest) {
            self.blocks -= blob.entry.blocks();
            if blob.pinned {
                self.pinned.remove(&blob.last_use);
                self.pinned_blocks -= blob.entry.blocks();
            } else {
                self.order.remove(&blob.last_use);
            }
        }
    }

    /// At most `most` blobs in the order of their last use, each with its place in it, from the place after `after` on.
    pub(super) fn in_order(&self, after: Option<u64>, most: usize) -> Vec<(u64, CachedBlobFacts)> {
        let listed = self.listed(after, most).into_iter();
        let facts =
            |blob: ListedBlob| CachedBlobFacts { digest: blob.digest, size: blob.size, uses: blob.uses };
        listed.map(|(place, blob)| (place, facts(blob))).collect()
    }

    /// Like [`Index::in_order`], with all that is known of each blob.
    pub(super) fn listed(&self, after: Option<u64>, most: usize) -> Vec<(u64, ListedBlob)> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let mut places: Vec<_> =
            self.order.range(from..).take(most).chain(self.pinned.range(from..).take(most)).collect();
        places.sort_unstable_by_key(|(place, _)| **place);
        places.truncate(most);
        let facts = |digest: &Digest, blob: &Indexed| ListedBlob {
            digest: *digest,
            size: blob.entry.size,
            uses: blob.lookups,
            pinned: blob.pinned,
            proven: blob.entry.is_servable(),
            used_at: blob.entry.used_at(),
        };
        places
            .into_iter()
            .filter_map(|(place, digest)| Some((*place, facts(digest, self.blobs.get(digest)?))))
            .collect()
    }

    /// Removes the least recently used blob that is not pinned.
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

    #[test]
    fn pinned_blobs_stay_until_they_are_unpinned() {
        let mut index = Index::default();
        let digests = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        digests.iter().for_each(|digest| index.insert(*digest, Arc::new(Entry::proven(1))));
        index.set_pinned(&digests[0], true);
        index.set_pinned(&digests[0], true);
        assert_eq!((index.blocks(), index.pinned_blocks(), index.pinned()), (3, 1, vec![digests[0]]));
        assert!(index.is_pinned(&digests[0]) && !index.is_pinned(&digests[1]));
        let listed =
            |index: &Index| index.listed(None, 9).iter().map(|(_, blob)| blob.digest).collect::<Vec<_>>();
        assert_eq!(listed(&index), digests);
        assert!(index.get(&digests[0]).is_some());
        assert_eq!(listed(&index), [digests[1], digests[2], digests[0]]);
        assert_eq!(index.listed(Some(2), 1)[0].1.digest, digests[2]);
        assert_eq!([index.evict(), index.evict(), index.evict()], [Some(digests[1]), Some(digests[2]), None]);
        index.set_pinned(&digests[0], false);
        assert_eq!((index.evict(), index.pinned_blocks(), index.blocks()), (Some(digests[0]), 0, 0));
        index.set_pinned(&digests[0], true);
        assert_eq!(index.pinned_blocks(), 0);
    }
}
