//! Writes, merges and reads the journal's column `size`. Pure.
//!
//! - NULL: nobody stated a size.
//! - 0: the read mark. The object at the target must be read (`Job::must_read`). When a try begins, it takes the mark
//!   from the job. From then on the column contains only what later adds state. If the try proves nothing, it puts the
//!   mark back.
//! - -1: two sizes differ (`Job::is_contradicted`). An earlier release reads -1 as 0.
//! - Any other value: the stated size in bytes.

use super::super::job::FoundSize;

/// SQL for the size of a job that is added again with the size `$stated`. The table must have the name `job`.
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

/// The value of the column for the result of a try.
pub(super) fn found_column(found: FoundSize) -> i64 {
    match found {
        FoundSize::Bytes(size) => i64::try_from(size).unwrap_or(i64::MAX),
        FoundSize::Contradicted => -1,
        FoundSize::InDoubt => 0,
    }
}

/// Returns the size in bytes that the column states, and whether it is contradicted.
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
