//! A copy that the stores make by themselves, where both are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backends::{Error, Kind, Whereabouts};
use tokio::time::timeout;
use tracing::{info, warn};
use zone_router::Zone;

use super::super::job::Job;
use super::attempt::Attempt;
use super::means::{Means, Read};
use super::{CopyError, Outcome};

/// The smallest blob, in bytes, that is copied so: a smaller one is read and written sooner. Simulations have
/// no time for large ones.
const WITHIN_MIN: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// What a lane knows of copies within a store.
#[derive(Debug, Default)]
pub(in super::super) struct Within {
    /// The store said that it does not do this for us: not asked again.
    refused: AtomicBool,
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
    /// Has the target's store copy the object of `zone`, where nothing lies at the target; `None` where
    /// that cannot be done: then its bytes pass here.
    ///
    /// The object is read and hashed before, not after: what the store makes is visible at once, and may
    /// land after we gave up waiting for it, or over what somebody else wrote meanwhile.
    pub(super) async fn within(&mut self, zone: &Zone, size: u64) -> Result<Option<Outcome>, CopyError> {
        let (means, blob) = (self.means, &self.job.blob);
        if self.there.is_some() {
            return Ok(None);
        }
        let Some(from) = means.may_be_within(self.job, zone, size) else { return Ok(None) };
        let room = means.pace.room_as_said(self.job.size, size).await;
        let _room = room.map_err(|_| CopyError::later(size))?;
        let (size, version) = match means.read(&*zone.store, self.job, size).await {
            Ok(Read::Right(size, version)) => (size, version),
            Ok(Read::Wrong) => {
                self.spend(&zone.name, Error::new(Kind::Corrupt, "read it before a copy within the store"));
                return Ok(None);
            }
            // A relay goes on elsewhere where it breaks off.
            Ok(Read::Gone | Read::Broken(_)) | Err(_) => return Ok(None),
        };
        let from = from.with_version(version);
        let deadline = means.bounds.deadline(size, means.bounds.slowest);
        match timeout(deadline, means.target.store.copy(&blob.key, &from, size)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(None),
            Err(_) => {
                self.in_doubt = true;
                return Ok(None);
            }
            Ok(Err(error)) => {
                self.in_doubt |= error.has_unknown_outcome();
                if matches!(error.kind(), Kind::Invalid | Kind::Denied) {
                    means.within.refused.store(true, Ordering::Relaxed);
                }
                info!(zone = %means.target.name, from = %zone.name, %error, "not copied within the store");
                return Ok(None);
            }
        }
        // Swift makes what its listing of the segments had.
        let made = means.target.store.head(&blob.key).await;
        let made = made.map_err(|error| CopyError::target(&means.target, error))?;
        if made.as_ref().is_some_and(|made| made.size == size) {
            return Ok(Some(self.copied(Some(Arc::clone(&zone.name)), size)));
        }
        warn!(zone = %means.target.name, from = %zone.name, digest = %blob.digest, "another object after a copy within the store");
        self.there = made;
        Ok(None)
    }
}
