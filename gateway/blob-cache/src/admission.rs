//! Decides which blobs the cache takes in, and which blobs it evicts for them. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backends::Digest;

use crate::bypass::BypassReason;
use crate::entry::Entry;
use crate::index::Index;

/// Whole blobs leave one part in this many of the cache free. Fills use that part, so that they evict nothing before it
/// is known whether a client stays for them.
const HEADROOM: u64 = 8;

/// Pinned blobs have at most this many percent of what whole blobs may have, so that other blobs still find room.
const PINNED_PERCENT_MAX: u64 = 80;

/// The blocks of the cache, and their holders: whole blobs and fills.
///
/// If a fill fits into free blocks, it gets them at its start. If it does not fit, and its blob was asked for again, it
/// takes blocks as its bytes arrive: free ones first. While a client stays, it then also takes those of the least
/// recently used blobs.
#[derive(Debug)]
pub(super) struct Space {
    capacity: u64,
    index: Index,
    fills: HashMap<FillNumber, Share>,
    /// The sums over all fills.
    sum: Share,
    next: FillNumber,
    /// The blobs that are pinned as soon as they are here and have room.
    wanted: HashSet<Digest>,
}

/// Names a fill that has space.
pub(super) type FillNumber = u64;

/// The blocks of a fill.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    /// The blocks that the blob needs.
    promised: u64,
    /// The blocks that the fill has.
    taken: u64,
}

/// How a fill was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It has all its blocks.
    Whole(FillNumber),
    /// It takes its blocks as its bytes arrive.
    Growing(FillNumber),
}

impl Admission {
    /// The fill that was admitted.
    pub(super) fn fill(self) -> FillNumber {
        match self {
            Self::Whole(fill) | Self::Growing(fill) => fill,
        }
    }
}

/// Blocks that whole blobs may have.
fn index_max(capacity: u64) -> u64 {
    capacity - if capacity > 1 { (capacity / HEADROOM).max(1) } else { 0 }
}

/// Whether this many blocks may become pinned ones. Fills keep what they were promised: pinned blobs are not evicted for
/// them.
fn may_pin(capacity: u64, index: &Index, fills: &Share, blocks: u64) -> bool {
    let pinned = index.pinned_blocks() + blocks;
    pinned <= index_max(capacity) * PINNED_PERCENT_MAX / 100 && fills.promised + pinned <= capacity
}

impl Space {
    /// A space of this many blocks, all of them free.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            index: Index::default(),
            fills: HashMap::new(),
            sum: Share::default(),
            next: 0,
            wanted: HashSet::new(),
        }
    }

    /// The most blocks of pinned blobs.
    pub(super) fn pinned_max(&self) -> u64 {
        index_max(self.capacity) * PINNED_PERCENT_MAX / 100
    }

    /// Whether this blob is to be pinned.
    pub(super) fn is_wanted(&self, digest: &Digest) -> bool {
        self.wanted.contains(digest)
    }

    /// Pins these blobs, as far as they are here and have room, and unpins all others. Returns those that are here and
    /// have no room among the pinned ones now.
    pub(super) fn set_pins(&mut self, wanted: HashSet<Digest>) -> Vec<Digest> {
        for digest in self.index.pinned() {
            if !wanted.contains(&digest) {
                self.index.set_pinned(&digest, false);
            }
        }
        self.wanted = wanted;
        let mut refused = Vec::new();
        for digest in &self.wanted {
            let unpinned = self.index.peek(digest).filter(|_| !self.index.is_pinned(digest));
            match unpinned.map(|entry| entry.blocks()) {
                Some(blocks) if may_pin(self.capacity, &self.index, &self.sum, blocks) => {
                    self.index.set_pinned(digest, true);
                }
                Some(_) => refused.push(*digest),
                None => {}
            }
        }
        refused
    }

    /// The whole blobs.
    pub(super) fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Blocks in use.
    pub(super) fn used(&self) -> u64 {
        self.index.blocks() + self.sum.taken
    }

    /// The number of fills that have space.
    pub(super) fn fills(&self) -> usize {
        self.fills.len()
    }

    /// Reserves space for a fill, or says why there is none. A blob may evict others only if it is `asked_again`. The
    /// cache promises all fills together no more than its capacity, so that each of them gets what it was promised.
    pub(super) fn admit(&mut self, blocks: u64, asked_again: bool) -> Result<Admission, BypassReason> {
        let fits = blocks <= self.free();
        let pinned = self.index.pinned_blocks();
        if blocks + pinned > index_max(self.capacity) {
            return Err(BypassReason::TooLarge);
        } else if !fits && !asked_again {
            return Err(BypassReason::AskedOnce);
        } else if self.sum.promised + blocks + pinned > self.capacity {
            return Err(BypassReason::Busy);
        }
        let share = Share { promised: blocks, taken: if fits { blocks } else { 0 } };
        self.sum.promised += share.promised;
        self.sum.taken += share.taken;
        let number = self.next;
        self.next += 1;
        self.fills.insert(number, share);
        Ok(if fits { Admission::Whole(number) } else { Admission::Growing(number) })
    }

    /// Gives a fill this many blocks in all, and returns the blobs that are evicted for it. Returns `None` if the fill
    /// gets no more blocks: because it would evict others and no client stays (`stays`), or because it has ended.
    pub(super) fn grow(&mut self, number: FillNumber, blocks: u64, stays: bool) -> Option<Vec<Digest>> {
        let share = *self.fills.get(&number)?;
        let more = blocks.saturating_sub(share.taken);
        if blocks > share.promised || more > self.free() && !stays {
            return None;
        }
        let evicted = self.make_room(more, u64::MAX);
        self.sum.taken += more;
        self.fills.insert(number, Share { taken: share.taken + more, ..share });
        Some(evicted)
    }

    /// Whether a blob that is now whole is kept. If it evicts others, it is kept only if a client stayed for it
    /// (`wanted`).
    pub(super) fn keeps(&self, digest: &Digest, blocks: u64, wanted: bool) -> bool {
        self.index.peek(digest).is_none()
            && self.index.pinned_blocks() + blocks <= index_max(self.capacity)
            && (wanted || self.index.blocks() + blocks <= index_max(self.capacity))
    }

    /// Adds a whole blob, which a fill has written or a restart has found. Returns the blobs that are evicted for it.
    /// If the cache has become smaller and the blob is too large, the blob itself is evicted.
    pub(super) fn keep(
        &mut self,
        fill: Option<FillNumber>,
        digest: Digest,
        entry: Arc<Entry>,
    ) -> Vec<Digest> {
        fill.into_iter().for_each(|number| self.end(number));
        let blocks = entry.blocks();
        let kept_max = index_max(self.capacity).checked_sub(blocks);
        let Some(kept_max) = kept_max.filter(|max| self.index.pinned_blocks() <= *max) else {
            return vec![digest];
        };
        let evicted = self.make_room(blocks, kept_max);
        self.index.insert(digest, entry);
        if self.wanted.contains(&digest) && may_pin(self.capacity, &self.index, &self.sum, blocks) {
            self.index.set_pinned(&digest, true);
        }
        evicted
    }

    /// Takes back the blocks of a fill that has ended.
    pub(super) fn end(&mut self, number: FillNumber) {
        if let Some(share) = self.fills.remove(&number) {
            self.sum.promised -= share.promised;
            self.sum.taken -= share.taken;
        }
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// Evicts blobs until this many blocks are free and whole blobs have at most `kept_max`.
    fn make_room(&mut self, blocks: u64, kept_max: u64) -> Vec<Digest> {
        let mut evicted = Vec::new();
        while self.free() < blocks || self.index.blocks() > kept_max {
            match self.index.evict() {
                Some(digest) => evicted.push(digest),
                None => break,
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u64 = 100;

    fn named(name: usize) -> Digest {
        Digest::of(&name.to_be_bytes())
    }

    fn of_blocks(blocks: u64) -> Arc<Entry> {
        Arc::new(Entry::proven(crate::entry::bytes(blocks)))
    }

    /// A cache that keeps blobs of these many blocks, and the digests of those blobs.
    fn holding(blobs: &[u64]) -> (Space, HashMap<Digest, u64>) {
        let mut space = Space::new(CAPACITY);
        for (name, blocks) in blobs.iter().enumerate() {
            space.keep(None, named(name), of_blocks(*blocks));
        }
        let sizes = blobs.iter().enumerate().map(|(name, blocks)| (named(name), *blocks));
        let kept = sizes.filter(|(digest, _)| space.index.peek(digest).is_some()).collect();
        (space, kept)
    }

    #[test]
    fn a_first_pull_that_stays_to_the_end_is_kept_and_evicts_the_oldest() {
        let mut space = Space::new(CAPACITY);
        for name in 0..50 {
            let Ok(Admission::Whole(number)) = space.admit(10, false) else { panic!("blob {name}") };
            assert!(space.keeps(&named(name), 10, true));
            space.keep(Some(number), named(name), of_blocks(10));
            assert!(space.index.peek(&named(name)).is_some());
        }
        assert!(space.index.len() >= 8 && space.fills() == 0);
    }

    /// A fill gets the blocks that it was promised, whatever other clients do.
    #[test]
    fn fills_are_promised_no_more_than_there_is() {
        let (mut space, _) = holding(&[20; 4]);
        let Ok(Admission::Growing(first)) = space.admit(60, true) else { panic!("not admitted") };
        assert_eq!(space.admit(60, true), Err(BypassReason::Busy));
        assert_eq!(space.admit(60, false), Err(BypassReason::AskedOnce));
        assert_eq!(space.admit(89, true), Err(BypassReason::TooLarge));
        let Ok(Admission::Growing(second)) = space.admit(40, true) else { panic!("not admitted") };
        assert!(space.grow(first, 60, true).is_some() && space.grow(second, 40, true).is_some());
        assert_eq!((space.used(), space.index.len()), (CAPACITY, 0));
        assert_eq!(space.grow(first, 61, true), None, "more than it was promised");
        space.end(first);
        assert_eq!(space.grow(first, 60, true), None, "it has ended");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin { blocks: u64, asked_again: bool },
        Grow { at: usize, blocks: u64, stays: bool },
        End { at: usize, whole: bool, wanted: bool },
        Pin { from: usize, count: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (at, yes) = (any::<usize>, any::<bool>);
        let step = prop_oneof![
            (1..=CAPACITY, yes()).prop_map(|(blocks, asked_again)| Step::Begin { blocks, asked_again }),
            (at(), 1..=CAPACITY, yes()).prop_map(|(at, blocks, stays)| Step::Grow { at, blocks, stays }),
            (at(), yes(), yes()).prop_map(|(at, whole, wanted)| Step::End { at, whole, wanted }),
            (0..200_usize, 0..20_usize).prop_map(|(from, count)| Step::Pin { from, count }),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// For any sequence of clients that come, stay or leave: the cache never exceeds its size, and a fill for which
        /// a client stays never lacks the space that it was promised, whatever is pinned meanwhile. Pinned blobs have no
        /// more than their part, and are not evicted.
        #[test]
        fn never_over_its_size(steps in steps()) {
            let mut space = Space::new(CAPACITY);
            let mut fills = Vec::new();
            for (name, step) in steps.into_iter().enumerate() {
                let pinned = space.index.pinned();
                let is_pin = matches!(step, Step::Pin { .. });
                match step {
                    Step::Pin { from, count } => {
                        space.set_pins((from..from + count).map(named).collect());
                    }
                    Step::Begin { blocks, asked_again } => {
                        if let Ok(Admission::Whole(number) | Admission::Growing(number)) =
                            space.admit(blocks, asked_again)
                        {
                            fills.push((named(name), number, blocks));
                        }
                    }
                    Step::Grow { at, blocks, stays } if !fills.is_empty() => {
                        let (_, number, promised) = fills[at % fills.len()];
                        let grown = space.grow(number, blocks.min(promised), stays);
                        prop_assert!(grown.is_some() || !stays);
                    }
                    Step::End { at, whole, wanted } if !fills.is_empty() => {
                        let (digest, number, blocks) = fills.swap_remove(at % fills.len());
                        if whole && space.grow(number, blocks, wanted).is_some() && space.keeps(&digest, blocks, wanted) {
                            space.keep(Some(number), digest, of_blocks(blocks));
                        }
                        space.end(number);
                    }
                    _ => {}
                }
                prop_assert!(is_pin || pinned.iter().all(|digest| space.index.is_pinned(digest)));
                prop_assert!(space.index.pinned_blocks() <= space.pinned_max());
                prop_assert!(space.used() <= CAPACITY, "{space:?}");
                prop_assert!(space.index.blocks() <= index_max(CAPACITY));
                let taken: u64 = space.fills.values().map(|share| share.taken).sum();
                let promised: u64 = space.fills.values().map(|share| share.promised).sum();
                prop_assert_eq!((taken, promised), (space.sum.taken, space.sum.promised));
                prop_assert_eq!(space.fills(), fills.len());
            }
        }

        /// If the clients of a request leave, it has evicted no more than the received blocks needed beyond the free
        /// ones: without the last evicted blob, the space would have been too small. After the clients have left,
        /// nothing is evicted.
        #[test]
        fn requests_that_leave_evict_at_most_what_was_received(
            kept in proptest::collection::vec(1..20_u64, 1..12),
            passing in proptest::collection::vec((1..=CAPACITY, any::<bool>(), 0..=CAPACITY), 1..50),
        ) {
            let (mut space, mut sizes) = holding(&kept);
            for (name, (blocks, asked_again, received)) in (1000..).zip(passing) {
                let free = space.free();
                let admitted = space.admit(blocks, asked_again);
                let Ok(Admission::Whole(number) | Admission::Growing(number)) = admitted else { continue };
                let mut evicted = Vec::new();
                for received in 1..=received.min(blocks) {
                    evicted.extend(space.grow(number, received, true).expect("promised"));
                }
                let beyond = received.min(blocks).saturating_sub(free);
                prop_assert!(beyond > 0 || evicted.is_empty());
                let without_last = evicted.iter().rev().skip(1).map(|digest| sizes[digest]).sum::<u64>();
                prop_assert!(without_last < beyond.max(1), "{without_last} for {beyond}");
                // All clients leave.
                sizes.retain(|digest, _| !evicted.contains(digest));
                let whole = (received..=blocks).all(|more| {
                    space.grow(number, more, false).is_some_and(|evicted| evicted.is_empty())
                });
                if whole && space.keeps(&named(name), blocks, false) {
                    prop_assert_eq!(space.keep(Some(number), named(name), of_blocks(blocks)), []);
                    sizes.insert(named(name), blocks);
                }
                space.end(number);
                prop_assert!(sizes.keys().all(|digest| space.index.peek(digest).is_some()));
            }
        }

        /// If each blob was requested by one client that then leaves, nothing is evicted, whatever arrived.
        #[test]
        fn single_requests_that_leave_evict_nothing(
            kept in proptest::collection::vec(1..20_u64, 1..12),
            passing in proptest::collection::vec(1..=CAPACITY, 1..50),
        ) {
            let (mut space, sizes) = holding(&kept);
            for (name, blocks) in (1000..).zip(passing) {
                let Ok(admitted) = space.admit(blocks, false) else { continue };
                let Admission::Whole(number) = admitted else { panic!("it would evict") };
                prop_assert_eq!(space.grow(number, blocks, true), Some(vec![]));
                if space.keeps(&named(name), blocks, false) {
                    space.keep(Some(number), named(name), of_blocks(blocks));
                }
                space.end(number);
                prop_assert!(sizes.keys().all(|digest| space.index.peek(digest).is_some()));
            }
        }
    }
}
