//! Server-side copies: if source and target are on the same store, the store makes the copy itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backends::{CopySource, Error, Kind};
use tokio::time::timeout;
use tracing::{info, warn};
use zone_router::Zone;

use super::super::job::{FoundSize, Job};
use super::attempt::Attempt;
use super::copier::{Copier, Read};
use super::{CopyError, Outcome};

/// The smallest blob, in bytes, for which a server-side copy is made. Smaller blobs are read and written
/// faster. In tests the value is smaller, because simulations cannot afford large blobs.
const SERVER_SIDE_MIN: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// The state of a lane's server-side copies.
#[derive(Debug, Default)]
pub(in super::super) struct ServerSideCopy {
    /// Whether the store refused a copy. It is then not asked again.
    refused: AtomicBool,
}

impl Copier {
    /// The location from which the target's store may copy a blob of `size` bytes. `None` unless the zone is on the
    /// same store.
    pub(super) fn server_side_source(&self, job: &Job, zone: &Zone, size: u64) -> Option<CopySource> {
        if size < SERVER_SIDE_MIN || self.server_side.refused.load(Ordering::Relaxed) {
            return None;
        }
        let from = zone.store.copy_source(&job.blob.key)?;
        let to = self.target.store.copy_source(&job.blob.key)?;
        from.shares_scope(&to).then_some(from)
    }
}

impl Attempt<'_> {
    /// Lets the target's store copy the object of `zone`, if the target has no object. `None` if this is not
    /// possible; the bytes must then pass through this process.
    ///
    /// The object is read and hashed before the copy and not after it, because the copy is visible at once.
    /// The copy may also appear after this process stopped waiting for it, or over an object that somebody
    /// else wrote meanwhile.
    pub(super) async fn copy_server_side(
        &mut self,
        zone: &Zone,
        size: u64,
    ) -> Result<Option<Outcome>, CopyError> {
        let (copier, blob) = (self.copier, &self.job.blob);
        if self.existing.is_some() {
            return Ok(None);
        }
        let Some(from) = copier.server_side_source(self.job, zone, size) else { return Ok(None) };
        let reservation = copier.throttle.reserve_as_stated(self.job.size, size).await;
        let _reservation = reservation.map_err(|_| CopyError::deferred(FoundSize::Bytes(size)))?;
        let (size, version) = match copier.read(&*zone.store, self.job, size).await {
            Ok(Read::Right(size, version)) => (size, version),
            Ok(Read::Wrong) => {
                self.exclude(&zone.name, Error::new(Kind::Corrupt, "read before a server-side copy"));
                return Ok(None);
            }
            // A relay can continue with another source if this one breaks off.
            Ok(Read::Gone | Read::Broken(_)) | Err(_) => return Ok(None),
        };
        let from = from.with_version(version);
        let deadline = copier.bounds.deadline(size, copier.bounds.slowest);
        match timeout(deadline, copier.target.store.copy(&blob.key, &from, size)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(None),
            Err(_) => {
                self.in_doubt = true;
                return Ok(None);
            }
            Ok(Err(error)) => {
                self.in_doubt |= error.has_unknown_outcome();
                if matches!(error.kind(), Kind::Invalid | Kind::Denied) {
                    copier.server_side.refused.store(true, Ordering::Relaxed);
                }
                info!(zone = %copier.target.name, from = %zone.name, %error, "no server-side copy");
                return Ok(None);
            }
        }
        // Swift copies the segments that its listing showed, which may be incomplete.
        let made = copier.target.store.head(&blob.key).await;
        let made = made.map_err(|error| CopyError::target(&copier.target, error))?;
        if made.as_ref().is_some_and(|made| made.size == size) {
            return Ok(Some(self.copied(Some(Arc::clone(&zone.name)), size)));
        }
        warn!(zone = %copier.target.name, from = %zone.name, digest = %blob.digest, "the object that a server-side copy made has another size");
        self.existing = made;
        Ok(None)
    }
}
