//! Which blobs may come in, and whether they evict others: pure.

/// One part in so many of the cache is left free by whole blobs. Fills use it, so that they evict nothing
/// before it is known whether a client stays for them.
const HEADROOM: u64 = 8;

/// The blocks of the cache, and what has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupancy {
    /// All blocks.
    pub(super) capacity: u64,
    /// Blocks of the index: whole blobs, and reservations of fills that evict others.
    pub(super) indexed: u64,
    /// Blocks of fills that come into the index when they are whole.
    pub(super) beside: u64,
}

/// Where a fill gets its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// In the index, which has space.
    Free,
    /// Beside the index, until the blob is whole.
    Beside,
    /// In the index, which evicts the least recently used blobs.
    Evicting,
}

/// Blocks that the index may hold.
pub(super) fn index_max(capacity: u64) -> u64 {
    capacity - if capacity > 1 { (capacity / HEADROOM).max(1) } else { 0 }
}

impl Occupancy {
    /// Where a blob of so many blocks gets space, if anywhere. A blob evicts others only if it was asked for
    /// before or several clients ask for it now (`asked_again`).
    pub(super) fn admit(&self, blocks: u64, asked_again: bool) -> Option<Admission> {
        let free = self.capacity.saturating_sub(self.indexed + self.beside);
        let index = index_max(self.capacity);
        if blocks <= free && blocks <= index.saturating_sub(self.indexed) {
            Some(Admission::Free)
        } else if blocks <= free {
            Some(Admission::Beside)
        } else if asked_again && blocks <= index && index + self.beside <= self.capacity {
            Some(Admission::Evicting)
        } else {
            None
        }
    }

    /// Whether a blob that came in beside the index is kept. If it evicts others, it is kept only if a client
    /// stayed for it (`wanted`).
    pub(super) fn keeps(&self, blocks: u64, wanted: bool) -> bool {
        wanted || self.indexed + blocks <= index_max(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u64 = 100;

    /// A cache as admission sees it, oldest first.
    #[derive(Default)]
    struct Model {
        index: VecDeque<(u32, u64)>,
        beside: Vec<(u32, u64)>,
    }

    impl Model {
        fn occupancy(&self) -> Occupancy {
            let sum = |blobs: &mut dyn Iterator<Item = &(u32, u64)>| blobs.map(|(_, blocks)| blocks).sum();
            let (indexed, beside) = (sum(&mut self.index.iter()), sum(&mut self.beside.iter()));
            Occupancy { capacity: CAPACITY, indexed, beside }
        }

        fn insert(&mut self, name: u32, blocks: u64) {
            self.index.push_back((name, blocks));
            while self.occupancy().indexed > index_max(CAPACITY) {
                self.index.pop_front();
            }
        }

        fn begin(&mut self, name: u32, blocks: u64, again: bool) -> Option<Admission> {
            let admission = self.occupancy().admit(blocks, again);
            match admission {
                Some(Admission::Free | Admission::Evicting) => self.insert(name, blocks),
                Some(Admission::Beside) => self.beside.push((name, blocks)),
                None => {}
            }
            admission
        }

        fn end(&mut self, at: usize, wanted: bool) {
            let (name, blocks) = self.beside[at];
            if self.occupancy().keeps(blocks, wanted) {
                self.insert(name, blocks);
            }
            self.beside.remove(at);
        }
    }

    #[test]
    fn a_first_pull_that_stays_to_the_end_is_kept_and_evicts_the_oldest() {
        let mut model = Model::default();
        for name in 0..50 {
            assert!(model.begin(name, 10, false).is_some(), "blob {name}");
            if !model.beside.is_empty() {
                model.end(0, true);
            }
            assert!(model.index.iter().any(|(kept, _)| *kept == name));
        }
        assert!(model.index.len() >= 8);
    }

    proptest! {
        /// The cache is never over its size, whichever clients come, stay or leave.
        #[test]
        fn never_over_its_size(
            steps in proptest::collection::vec((1..=CAPACITY, any::<bool>(), any::<bool>()), 1..100),
        ) {
            let mut model = Model::default();
            for (name, (blocks, begin, yes)) in (0..).zip(steps) {
                if begin {
                    model.begin(name, blocks, yes);
                } else if !model.beside.is_empty() {
                    model.end(0, yes);
                }
                let occupancy = model.occupancy();
                prop_assert!(occupancy.indexed + occupancy.beside <= CAPACITY, "{occupancy:?}");
                prop_assert!(occupancy.indexed <= index_max(CAPACITY));
            }
        }

        /// Requests of one client each that leave at once evict nothing.
        #[test]
        fn single_requests_that_leave_evict_nothing(
            kept in proptest::collection::vec(1..20_u64, 1..12),
            passing in proptest::collection::vec(1..=CAPACITY, 1..50),
        ) {
            let mut model = Model::default();
            for (name, blocks) in (0..).zip(kept) {
                model.begin(name, blocks, true);
                while !model.beside.is_empty() {
                    model.end(0, true);
                }
            }
            let before: Vec<_> = model.index.iter().copied().collect();
            for (name, blocks) in (1000..).zip(passing) {
                model.begin(name, blocks, false);
                while !model.beside.is_empty() {
                    model.end(0, false);
                }
                prop_assert!(before.iter().all(|blob| model.index.contains(blob)));
            }
        }
    }
}
