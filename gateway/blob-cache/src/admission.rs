//! Which blobs may come in, and whether others go for them: pure.

/// A part of the cache that whole blobs leave free: room for blobs on their way in, so that none has to go
/// before it is known whether anyone waits for them.
const HEADROOM: u64 = 8;

/// Blocks of the cache, and who has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Books {
    /// In all.
    pub(super) capacity: u64,
    /// Of the index: whole blobs, and room kept for those that displace others.
    pub(super) indexed: u64,
    /// Of blobs on their way in beside the index.
    pub(super) beside: u64,
}

/// Where a blob on its way in gets its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the index, which has room.
    Free,
    /// Beside the index, until it is whole.
    Beside,
    /// In the index, where the least recently used go for it.
    Displacing,
}

/// Blocks that the index may hold.
pub(super) fn index_max(capacity: u64) -> u64 {
    capacity - if capacity > 1 { (capacity / HEADROOM).max(1) } else { 0 }
}

impl Books {
    /// Where a blob of so many blocks gets room, if anywhere. `again` says that it was asked for before, or
    /// is by several now: a single request displaces nothing.
    pub(super) fn place(&self, blocks: u64, again: bool) -> Option<Place> {
        let free = self.capacity.saturating_sub(self.indexed + self.beside);
        let index = index_max(self.capacity);
        if blocks <= free && blocks <= index.saturating_sub(self.indexed) {
            Some(Place::Free)
        } else if blocks <= free {
            Some(Place::Beside)
        } else if again && blocks <= index && index + self.beside <= self.capacity {
            Some(Place::Displacing)
        } else {
            None
        }
    }

    /// Whether a blob that came in beside the index is kept: where it displaces others, only if someone
    /// stayed for it.
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

    /// A cache as the books see it, oldest first.
    #[derive(Default)]
    struct Model {
        index: VecDeque<(u32, u64)>,
        beside: Vec<(u32, u64)>,
    }

    impl Model {
        fn books(&self) -> Books {
            let sum = |blobs: &mut dyn Iterator<Item = &(u32, u64)>| blobs.map(|(_, blocks)| blocks).sum();
            let (indexed, beside) = (sum(&mut self.index.iter()), sum(&mut self.beside.iter()));
            Books { capacity: CAPACITY, indexed, beside }
        }

        fn insert(&mut self, name: u32, blocks: u64) {
            self.index.push_back((name, blocks));
            while self.books().indexed > index_max(CAPACITY) {
                self.index.pop_front();
            }
        }

        fn begin(&mut self, name: u32, blocks: u64, again: bool) -> Option<Place> {
            let place = self.books().place(blocks, again);
            match place {
                Some(Place::Free | Place::Displacing) => self.insert(name, blocks),
                Some(Place::Beside) => self.beside.push((name, blocks)),
                None => {}
            }
            place
        }

        fn end(&mut self, at: usize, wanted: bool) {
            let (name, blocks) = self.beside[at];
            if self.books().keeps(blocks, wanted) {
                self.insert(name, blocks);
            }
            self.beside.remove(at);
        }
    }

    #[test]
    fn a_first_pull_that_stays_to_the_end_is_kept_and_displaces_the_oldest() {
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
        /// The cache is never over its size, whoever comes, stays or leaves.
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
                let books = model.books();
                prop_assert!(books.indexed + books.beside <= CAPACITY, "{books:?}");
                prop_assert!(books.indexed <= index_max(CAPACITY));
            }
        }

        /// Requests of one client each that leave at once displace nothing.
        #[test]
        fn single_requests_that_leave_displace_nothing(
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
