//! Writes, merges and reads the journal's column `size`. Pure.
//!
//! NULL: nobody stated a size. 0: the object at the target is to be read (`Job::must_read`). A try takes the 0 over
//! when it begins: then the column says only what was added since. A try that proves nothing puts the 0 back. -1: two
//! sizes differ (`Job::is_contradicted`); an earlier release reads it as 0.

use super::super::job::FoundSize;

/// SQL for the size of a job that is added again with the size `$stated`. Its table must be called `job`.
macro_rules! merged_size {
    ($stated:literal) => {
        concat!(
            "CASE WHEN job.size = 0 OR ",
            $stated,
            " = 0 THEN 0 WHEN job.size < 0 OR ",
            $stated,
            " < 0 OR job.size <> ",
            $stated,
            " THEN -1 ELSE coalesce(",
            $stated,
            ", job.size) END"
        )
    };
}

pub(super) use merged_size;

/// The value of the column for a stated size in bytes.
pub(super) fn column(size: Option<u64>) -> Option<i64> {
    size.map(|size| i64::try_from(size).unwrap_or(i64::MAX))
}

/// The column for what a try found.
pub(super) fn found_column(found: FoundSize) -> i64 {
    match found {
        FoundSize::Bytes(size) => i64::try_from(size).unwrap_or(i64::MAX),
        FoundSize::Contradicted => -1,
        FoundSize::InDoubt => 0,
    }
}

/// The size that the column states in bytes, and whether it is contradicted.
pub(super) fn stated(column: Option<i64>) -> (Option<u64>, bool) {
    (column.and_then(|size| u64::try_from(size).ok()), column.is_some_and(|size| size < 0))
}

/// Like [`merged_size`], for two jobs that are added together.
pub(super) fn merged(before: Option<i64>, stated: Option<i64>) -> Option<i64> {
    match (before, stated) {
        (Some(0), _) | (_, Some(0)) => Some(0),
        (Some(before), Some(stated)) if before != stated => Some(-1),
        (before, stated) => before.or(stated),
    }
}
