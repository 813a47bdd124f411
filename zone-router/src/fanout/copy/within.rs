//! A copy that the stores make by themselves, where both are one; proven only afterwards.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use backends::{Digest, Kind, Meta, Whereabouts};
use tokio::time::timeout;
use tracing::{info, warn};

use super::super::job::Job;
use super::attempt::Attempt;
use super::means::Means;
use super::{CopyError, Outcome};
use crate::Zone;

/// The smallest blob, in bytes, that is copied so: a smaller one is read and written sooner.
const WITHIN_MIN: u64 = 1 << 20;

/// Objects that were copied and could not be read, at most; then no more are copied so.
const UNPROVEN_MAX: usize = 1000;

/// What a lane knows of copies within a store.
#[derive(Debug, Default)]
pub(in super::super) struct Within {
    /// The store said that it does not do this for us: not asked again.
    refused: AtomicBool,
    /// What was copied and is not proven: its size does not speak for it.
    unproven: Mutex<HashSet<Digest>>,
}

impl Within {
    /// Whether what lies at the target came from a copy that nobody has proven.
    pub(super) fn is_unproven(&self, digest: &Digest) -> bool {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// `false` if there are too many.
    fn begin(&self, digest: Digest) -> bool {
        let mut unproven = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        if unproven.len() >= UNPROVEN_MAX {
            return false;
        }
        unproven.insert(digest);
        true
    }

    /// It was proven, replaced or taken away.
    pub(super) fn settle(&self, digest: &Digest) {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

impl Means {
    /// Whether a blob of `size` bytes may be copied from a zone by the target's store itself; from where.
    pub(super) fn may_be_within(&self, job: &Job, zone: &Zone, size: u64) -> Option<Whereabouts> {
        if size < WITHIN_MIN || self.within.refused.load(Ordering::Relaxed) {
            return None;
        }
        let from = zone.store.whereabouts(&job.blob.key)?;
        let to = self.target.store.whereabouts(&job.blob.key)?;
        from.is_kin(&to).then_some(from)
    }
}

impl Attempt<'_> {
    /// Has the target's store copy the object of `zone`, where it can, and reads and hashes what it
    /// then has; `None` where that is not the blob, or could not be done: then its bytes pass here.
    pub(super) async fn within(&mut self, zone: &Zone, size: u64) -> Result<Option<Outcome>, CopyError> {
        let (means, blob) = (self.means, &self.job.blob);
        let Some(from) = means.may_be_within(self.job, zone, size) else { return Ok(None) };
        if !means.within.begin(blob.digest) {
            return Ok(None);
        }
        let deadline = means.bounds.deadline(size, means.bounds.slowest);
        let copied = {
            let _room = means.pace.room(size).await;
            timeout(deadline, means.target.store.copy(&blob.key, &from, size)).await
        };
        match copied {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                means.within.settle(&blob.digest);
                return Ok(None);
            }
            // It may have been done all the same, so it stays unproven.
            Ok(Err(error)) => {
                if matches!(error.kind(), Kind::Invalid | Kind::Denied) {
                    means.within.refused.store(true, Ordering::Relaxed);
                }
                info!(zone = %means.target.name, from = %zone.name, %error, "not copied within the store");
                return Ok(None);
            }
            Err(_) => return Ok(None),
        }
        let there = Meta { key: blob.key.clone(), size, modified: None };
        if means.is_right(self.job, &there).await? {
            means.within.settle(&blob.digest);
            return Ok(Some(self.copied(Some(std::sync::Arc::clone(&zone.name)), size)));
        }
        warn!(zone = %means.target.name, from = %zone.name, digest = %blob.digest, "wrong bytes after a copy within the store");
        self.is_wrong = true;
        self.left_wrong = true;
        Ok(None)
    }

    /// Takes away what a copy within the store left, if it is wrong and nothing came in its place.
    pub(super) async fn take_away(&self) {
        let (means, blob) = (self.means, &self.job.blob);
        if !self.left_wrong {
            return;
        }
        match means.target.store.delete(&blob.key).await {
            Ok(()) => means.within.settle(&blob.digest),
            Err(error) => {
                warn!(zone = %means.target.name, digest = %blob.digest, %error, "wrong bytes stay at the target");
            }
        }
    }
}
