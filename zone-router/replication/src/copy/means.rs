//! What the copies of a lane share, and the course of a job.

use std::sync::Arc;

use backends::{Digest, Error, Hasher, Kind, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::timeout;
use zone_router::{Router, SizeClass, Zone};

use super::super::authority::{Authority, Placed};
use super::super::bounds::{Bounds, Verify};
use super::super::job::Job;
use super::super::local::Local;
use super::super::pace::Pace;
use super::attempt::Attempt;
use super::proven::Proven;
use super::relay::{self, Origin, Relay};
use super::within::Within;
use super::{CopyError, End, Fault, Outcome};

/// The largest blob, in bytes, that is opened at its source before it is known that the target lacks it.
const AHEAD_MAX: u64 = 1 << 20;

/// What it came to to read and hash an object.
#[derive(Debug)]
pub(super) enum Read {
    /// It is the blob, of so many bytes, which the store calls so.
    Right(u64, Option<String>),
    /// It is another object.
    Wrong,
    /// It is not there.
    Gone,
    /// It could not be read to its end.
    Broken(Error),
}

/// What the copies of a lane share.
#[derive(Debug)]
pub(in super::super) struct Means {
    pub(in super::super) target: Zone,
    /// Every zone, home first.
    pub(in super::super) zones: Arc<[Zone]>,
    pub(in super::super) bounds: Bounds,
    pub(in super::super) verify: Verify,
    pub(in super::super) pace: Arc<Pace>,
    /// Knows which zones are near, and healthy.
    pub(in super::super) router: Option<Arc<Router>>,
    pub(in super::super) local: Option<Arc<dyn Local>>,
    pub(in super::super) authority: Option<Arc<dyn Authority>>,
    pub(in super::super) within: Within,
    pub(in super::super) proven: Proven,
}

impl Means {
    /// Sees a job to an end.
    pub(in super::super) async fn perform(&self, job: &Job) -> End {
        match self.copy(job).await {
            Ok(outcome) => End::Done(outcome),
            Err(CopyError { later: Some(size), .. }) => End::Later(size),
            Err(error)
                if error.fault == Fault::Nowhere
                    && !error.in_doubt
                    && job.attempts + 1 >= self.bounds.nowhere_tries =>
            {
                self.missing(job, error.failures.is_empty()).await
            }
            Err(error) => End::Failed(error),
        }
    }

    /// Sees to it that the target has the blob, from the best place that gives it, and that the
    /// registry is told.
    ///
    /// Nothing is deleted, and what lies at the target is overwritten only by bytes that the digest has
    /// proven, after it was found to be wrong itself.
    ///
    /// # Errors
    /// Nothing was written that was not verified; says whose fault it was.
    pub(in super::super) async fn copy(&self, job: &Job) -> Result<Outcome, CopyError> {
        let mut attempt = Attempt::begin(self, job).await?;
        match attempt.run().await {
            Ok(outcome) => self.tell(job, outcome).await,
            Err(error) => Err(CopyError { in_doubt: error.in_doubt || attempt.in_doubt, ..error }),
        }
    }

    /// Tells the registry that the target has the blob.
    pub(super) async fn tell(&self, job: &Job, outcome: Outcome) -> Result<Outcome, CopyError> {
        let Some(authority) = &self.authority else { return Ok(outcome) };
        match authority.placed(job, &self.target).await {
            Ok(Placed::Kept) => Ok(outcome),
            Ok(Placed::Withdrawn) => Ok(Outcome::Withdrawn),
            Err(why) => Err(CopyError::registry(why)),
        }
    }

    /// Whether an object that is there already counts only after it was read and hashed.
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
            None => (0..self.zones.len()).collect(),
        };
        let zones = order.into_iter().filter_map(|zone| self.zones.get(zone));
        zones.filter(|zone| zone.name != self.target.name).collect()
    }

    /// Whether reads pass it over.
    pub(super) fn is_out_of_use(&self, zone: &Zone) -> bool {
        self.router.as_ref().is_some_and(|router| router.is_out_of_use(&zone.name))
    }

    /// A blob out of these places.
    pub(super) fn relay(&self, job: &Job, size: u64, origins: Vec<Origin>) -> Arc<Relay> {
        Relay::new(job.blob.key.clone(), size, origins, Arc::clone(&self.pace), self.bounds.stall)
    }

    /// The blob of a job as it nearly always is: of the size that was said, and in the best source.
    pub(super) fn quick(&self, job: &Job) -> Option<Arc<Relay>> {
        let size =
            job.size.filter(|size| job.attempts == 0 && *size > 0 && job.blob.digest != Digest::EMPTY)?;
        let sources = self.sources(job);
        if sources.first().is_some_and(|best| self.may_be_within(job, best, size).is_some()) {
            return None;
        }
        let origins: Vec<_> = relay::origins(&sources).collect();
        (!origins.is_empty()).then(|| self.relay(job, size, origins))
    }

    /// Whether it is worth opening before anybody knows that it is wanted: a push lies in the home zone
    /// already, and nowhere else.
    pub(super) fn opens_ahead(&self, job: &Job) -> bool {
        let home = self.zones.first().is_some_and(|home| home.name == self.target.name);
        !home && job.size.is_some_and(|size| size <= AHEAD_MAX)
    }

    /// Reads and hashes what a store has of a job's blob, which is said to be of `size` bytes; there must be
    /// room for it.
    ///
    /// # Errors
    /// The store gives no body, or not in time.
    pub(super) async fn read(&self, store: &dyn Store, job: &Job, size: u64) -> Result<Read, Error> {
        let deadline = self.bounds.deadline(size, self.pace.slowest(self.bounds.slowest));
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
                self.pace.pass(&mut chunk).await;
            }
        }
        let size = hasher.bytes();
        Ok(if hasher.finish() == job.blob.digest { Read::Right(size, version) } else { Read::Wrong })
    }

    /// Puts the blob of no bytes, which no source needs to give.
    pub(super) async fn put_nothing(&self, job: &Job) -> Result<(), CopyError> {
        let store: &dyn Store = &*self.target.store;
        let put = store.put(&job.blob.key, &Source::bytes(Bytes::new())).await;
        put.map_err(|error| CopyError::target(&self.target, error))
    }
}
