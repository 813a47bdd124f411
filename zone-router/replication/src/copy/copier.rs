//! Performs the jobs of one lane: the state that its copies share, and the steps of a job.

use std::sync::Arc;

use backends::{Digest, Error, Hasher, Kind, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::timeout;
use zone_router::{PerZone, Router, SizeClass, Zone};

use super::super::authority::{Authority, Placed};
use super::super::bounds::{Bounds, Verify};
use super::super::job::{FoundSize, Job};
use super::super::journal::Journal;
use super::super::local::Local;
use super::super::throttle::Throttle;
use super::attempt::Attempt;
use super::relay::{self, Origin, Relay};
use super::server_side::ServerSideCopy;
use super::verified_objects::VerifiedObjects;
use super::{CopyError, Fault, JobEnd, Outcome};

/// The largest blob, in bytes, that is opened at its source before the target has answered that it does not
/// have it.
const AHEAD_MAX: u64 = 1 << 20;

/// The result of reading and hashing an object.
#[derive(Debug)]
pub(super) enum Read {
    /// It is the blob. The values are its size in bytes and its version at the store.
    Right(u64, Option<String>),
    /// It is another object.
    Wrong,
    /// It does not exist.
    Gone,
    /// It could not be read to its end.
    Broken(Error),
}

/// Copies blobs into one target zone.
#[derive(Debug)]
pub(in super::super) struct Copier {
    pub(in super::super) target: Zone,
    /// Learns of a copy before anything is written.
    pub(in super::super) journal: Journal,
    /// Every zone, home first.
    pub(in super::super) zones: Arc<PerZone<Zone>>,
    pub(in super::super) bounds: Bounds,
    pub(in super::super) verify: Verify,
    pub(in super::super) throttle: Arc<Throttle>,
    /// Knows which zones are near and healthy.
    pub(in super::super) router: Option<Arc<Router>>,
    pub(in super::super) local: Option<Arc<dyn Local>>,
    pub(in super::super) authority: Option<Arc<dyn Authority>>,
    pub(in super::super) server_side: Arc<ServerSideCopy>,
    pub(in super::super) verified: Arc<VerifiedObjects>,
}

impl Copier {
    /// Performs a job to its end.
    pub(in super::super) async fn perform(&self, job: &Job) -> JobEnd {
        match self.copy(job).await {
            Ok(outcome) => JobEnd::Done(outcome),
            Err(CopyError { deferred: Some(size), in_doubt, .. }) => {
                JobEnd::Deferred(if in_doubt { FoundSize::InDoubt } else { size })
            }
            Err(error)
                if error.fault == Fault::Nowhere
                    && !error.in_doubt
                    && job.attempts + 1 >= self.bounds.nowhere_tries
                    // An object that reads wrong now may read right later. Without a registry, nobody can
                    // decide, so the job is tried again.
                    && (error.is_absent_everywhere() || self.authority.is_some()) =>
            {
                self.missing(job, error.is_absent_everywhere()).await
            }
            Err(error) => JobEnd::Failed(error),
        }
    }

    /// Makes sure that the target has the blob, and tells the registry. If the blob is missing, copies it from the best
    /// source.
    ///
    /// Nothing is deleted. An object at the target is overwritten only if it was found to be wrong, and only by bytes
    /// that match the digest.
    ///
    /// # Errors
    /// The blob could not be copied, or the registry could not be told. The error says which side failed. Only verified
    /// bytes were written.
    pub(in super::super) async fn copy(&self, job: &Job) -> Result<Outcome, CopyError> {
        let mut attempt = Attempt::begin(self, job).await?;
        match attempt.run().await {
            Ok(outcome) => self.report(job, outcome).await,
            Err(error) => Err(CopyError { in_doubt: error.in_doubt || attempt.in_doubt, ..error }),
        }
    }

    /// Tells the registry that the target has the blob.
    pub(super) async fn report(&self, job: &Job, outcome: Outcome) -> Result<Outcome, CopyError> {
        let Some(authority) = &self.authority else { return Ok(outcome) };
        match authority.placed(job, &self.target).await {
            Ok(Placed::Kept) => Ok(outcome),
            Ok(Placed::Withdrawn) => Ok(Outcome::Withdrawn),
            Err(error) => Err(CopyError::registry(error)),
        }
    }

    /// Whether an existing object must be read and hashed before it counts as the blob.
    pub(super) async fn must_prove(&self, job: &Job) -> Result<bool, CopyError> {
        if self.verify == Verify::Deep {
            return Ok(true);
        }
        match &self.authority {
            Some(authority) => authority.must_prove(job, &self.target).await.map_err(CopyError::registry),
            None => Ok(false),
        }
    }

    /// The zones that may be read for a job, best first.
    pub(super) fn sources(&self, job: &Job) -> Vec<&Zone> {
        let order = match &self.router {
            Some(router) => router.sources(&job.blob.digest, SizeClass::of(job.size)),
            None => self.zones.ids().collect(),
        };
        let zones = order.into_iter().filter_map(|zone| self.zones.get(zone));
        zones.filter(|zone| zone.name != self.target.name).collect()
    }

    /// Whether the breaker of the zone is open.
    pub(super) fn is_open(&self, zone: &Zone) -> bool {
        self.router.as_ref().is_some_and(|router| router.is_open(&zone.name))
    }

    /// A relay of the blob that reads from these origins.
    pub(super) fn relay(&self, job: &Job, size: u64, origins: Vec<Origin>) -> Arc<Relay> {
        Relay::new(job.blob.key.clone(), size, origins, Arc::clone(&self.throttle), self.bounds.stall)
    }

    /// The relay for the usual case: the blob has the stated size, and the best source has it.
    pub(super) fn fast_path(&self, job: &Job) -> Option<Arc<Relay>> {
        let size =
            job.size.filter(|size| job.attempts == 0 && *size > 0 && job.blob.digest != Digest::EMPTY)?;
        let sources = self.sources(job);
        if sources.first().is_some_and(|best| self.server_side_source(job, best, size).is_some()) {
            return None;
        }
        let origins: Vec<_> = relay::origins(&sources).collect();
        (!origins.is_empty()).then(|| self.relay(job, size, origins))
    }

    /// Whether the blob is opened before the target has answered that it does not have it. This is not done
    /// for the home zone, which has what was pushed.
    pub(super) fn opens_ahead(&self, job: &Job) -> bool {
        let home = self.zones.first().is_some_and(|home| home.name == self.target.name);
        !home && job.size.is_some_and(|size| size <= AHEAD_MAX)
    }

    /// Writes the bytes of a relay, within a deadline. After an error with an unknown outcome
    /// ([`Error::has_unknown_outcome`]), the object may have appeared, or may still appear.
    pub(super) async fn put(&self, job: &Job, relay: &Arc<Relay>) -> Result<(), Error> {
        let deadline = self.bounds.deadline(relay.size(), self.throttle.min_rate(self.bounds.slowest));
        let source = relay.source(job.blob.digest);
        let put = timeout(deadline, self.target.store.put(&job.blob.key, &source)).await;
        put.unwrap_or_else(|_| {
            // The source or the target may be slow. A try with another source will show which.
            let late = format!("copy {}: not done in {} s", job.blob.key, deadline.as_secs());
            Err(Error::new(Kind::Source, late).with_unknown_outcome())
        })
    }

    /// Reads and hashes the object that a store has under a job's key. `size` is its stated size in bytes,
    /// for which the caller has a reservation.
    ///
    /// # Errors
    /// The store returned no body, or not in time.
    pub(super) async fn read(&self, store: &dyn Store, job: &Job, size: u64) -> Result<Read, Error> {
        let deadline = self.bounds.deadline(size, self.throttle.min_rate(self.bounds.slowest));
        let late = |_| {
            Error::new(Kind::Timeout, format!("read {}: not done in {} s", job.blob.key, deadline.as_secs()))
        };
        timeout(deadline, self.hash(store, job)).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    async fn hash(&self, store: &dyn Store, job: &Job) -> Result<Read, Error> {
        let Some(object) = store.get(&job.blob.key, None).await? else { return Ok(Read::Gone) };
        let (mut hasher, mut body, version) = (Hasher::new(), object.body, object.version);
        loop {
            let mut chunk = match body.try_next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Ok(Read::Broken(error)),
            };
            hasher.update(&chunk);
            while !chunk.is_empty() {
                self.throttle.pass(&mut chunk).await;
            }
        }
        let size = hasher.bytes();
        Ok(if hasher.finish() == job.blob.digest { Read::Right(size, version) } else { Read::Wrong })
    }

    /// Writes the empty blob, which needs no source.
    pub(super) async fn put_empty(&self, job: &Job) -> Result<(), CopyError> {
        let store: &dyn Store = &*self.target.store;
        let put = store.put(&job.blob.key, &Source::bytes(Bytes::new())).await;
        put.map_err(|error| CopyError::target(&self.target, error))
    }
}
