//! A job: what to copy, and to which zone.

use std::sync::Arc;

use backends::Digest;
use zone_router::Blob;

/// The number of repositories that are kept for a job, the latest first.
pub const MAX_REPOSITORIES: usize = 4;

/// The longest repository name that is kept, in bytes. Quay's own column (`data/database.py:Repository`) has
/// 255 characters, besides a namespace of 255.
const MAX_REPOSITORY_NAME: usize = 512;

/// A job to add: copy this blob into that zone. The two identify the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The blob to copy.
    pub blob: Blob,
    /// The zone that must hold it.
    pub target: Arc<str>,
    /// The blob's size in bytes, if it is stated. It is only a hint, because clients write manifests. For 0
    /// see [`Job::must_read`].
    pub size: Option<u64>,
    /// The repository in which the blob was seen. It is used to ask the registry about the blob.
    pub repository: Option<String>,
}

impl NewJob {
    /// A job. An implausible repository name is left out.
    #[must_use]
    pub fn new(blob: Blob, target: Arc<str>, size: Option<u64>, repository: &str) -> Self {
        let plausible = !repository.is_empty()
            && repository.len() <= MAX_REPOSITORY_NAME
            && !repository.contains(char::is_control);
        Self { blob, target, size, repository: plausible.then(|| repository.to_owned()) }
    }
}

/// A job in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The blob to copy.
    pub blob: Blob,
    /// The zone that must hold it.
    pub target: Arc<str>,
    /// The blob's size in bytes, if it is stated. It is only a hint.
    pub size: Option<u64>,
    /// Whether two clients stated different sizes, or a try found a size other than the stated one. An object at the
    /// target then counts only if it was read and found right, or if it has the size of a verified copy at hand.
    pub is_contradicted: bool,
    /// The repositories in which the blob was seen, the latest first; at most [`MAX_REPOSITORIES`].
    pub repositories: Vec<String>,
    /// The number of failed tries so far.
    pub attempts: u32,
    /// Changes with every add. So it shows whether the job was added again since it was claimed.
    pub(super) stamp: i64,
}

impl Job {
    /// Whether the job has the read mark: the object at the target must be read and hashed, whatever its size. A size
    /// of 0 for a blob that is not empty is this mark. It is set if the object was found to be wrong. The journal keeps
    /// it until the object is proven.
    #[must_use]
    pub fn must_read(&self) -> bool {
        self.size == Some(0) && self.blob.digest != Digest::EMPTY
    }
}

/// What a try that wrote nothing found out about the size of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundSize {
    /// The blob has this many bytes.
    Bytes(u64),
    /// The stated sizes do not settle the size of the blob ([`Job::is_contradicted`]).
    Contradicted,
    /// An earlier write may have made an object appear, so the object must be read ([`Job::must_read`]).
    InDoubt,
}

/// Merges the repositories of a job with `new`, in which its blob was seen, too.
pub(super) fn merge(known: Vec<String>, new: Option<String>) -> Vec<String> {
    let Some(new) = new else { return known };
    let rest = known.into_iter().filter(|name| *name != new).collect::<Vec<_>>();
    std::iter::once(new).chain(rest).take(MAX_REPOSITORIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_repositories_are_kept_once_each() {
        let mut known = Vec::new();
        for name in ["a", "b", "a", "c", "d", "e", "e"] {
            known = merge(known, Some(name.to_owned()));
        }
        assert_eq!(known, ["e", "d", "c", "a"]);
        assert_eq!(merge(known.clone(), None), known);
    }
}
