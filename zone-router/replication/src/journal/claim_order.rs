//! Chooses which job a lane claims next. The kinds of jobs alternate, so that no kind waits for the backlog
//! of another. Pure.
//!
//! A job is *fresh* from the time when it is added, or added again, until a try of it fails.

/// How to choose one job of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The smallest fresh job whose size is known, so that many jobs are done soon.
    Smallest,
    /// The fresh job that has waited longest, so that small jobs never starve a large job or a job of unknown
    /// size.
    Oldest,
    /// The failed job that has been due longest.
    Retry,
}

/// The choices to try, in this order, for claim number `claims`. Of four claims in a row, three try fresh
/// jobs first, however many jobs failed, and each choice comes first at least once.
pub(super) fn choices(claims: u32) -> &'static [Choice] {
    match claims % 4 {
        0 | 1 => &[Choice::Smallest, Choice::Oldest, Choice::Retry],
        2 => &[Choice::Oldest, Choice::Retry],
        _ => &[Choice::Retry, Choice::Smallest, Choice::Oldest],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_choice_comes_first_within_four_claims(from in 0..u32::MAX - 4) {
            let first: Vec<_> = (from..from + 4).map(|claims| choices(claims)[0]).collect();
            for choice in [Choice::Smallest, Choice::Oldest, Choice::Retry] {
                prop_assert!(first.contains(&choice), "{first:?}");
            }
            prop_assert_eq!(first.iter().filter(|choice| **choice == Choice::Retry).count(), 1);
        }

        #[test]
        fn every_claim_finds_a_job_if_there_is_one(claims: u32) {
            // If there is only one fresh job, it is also the oldest.
            prop_assert!(choices(claims).contains(&Choice::Oldest) && choices(claims).contains(&Choice::Retry));
        }
    }
}
