//! Which job comes next: turns between kinds, so that none waits for another's backlog. Pure.
//!
//! A job is *fresh* from when it is added, or added again, until a try of it fails.

/// A way to choose one job of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// The smallest of the fresh: many are done soon.
    Smallest,
    /// The fresh one that waits the longest, so that small ones never starve a large one.
    Oldest,
    /// Of those that failed, the longest due.
    Retry,
}

/// The ways to try in this turn, one after the other. In four turns fresh ones come first three
/// times, whatever failed before, and each way once at least.
pub(super) fn picks(turn: u32) -> [Pick; 2] {
    match turn % 4 {
        0 | 1 => [Pick::Smallest, Pick::Retry],
        2 => [Pick::Oldest, Pick::Retry],
        _ => [Pick::Retry, Pick::Smallest],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_waits_longer_than_four_turns(from in 0..u32::MAX - 4) {
            let first: Vec<_> = (from..from + 4).map(|turn| picks(turn)[0]).collect();
            for pick in [Pick::Smallest, Pick::Oldest, Pick::Retry] {
                prop_assert!(first.contains(&pick), "{first:?}");
            }
            prop_assert_eq!(first.iter().filter(|pick| **pick == Pick::Retry).count(), 1);
        }

        #[test]
        fn every_turn_finds_a_job_where_there_is_one(turn: u32) {
            let fresh = picks(turn).iter().any(|pick| *pick != Pick::Retry);
            prop_assert!(fresh && picks(turn).contains(&Pick::Retry));
        }
    }
}
