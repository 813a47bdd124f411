//! What the copies of a lane share, and the course of a job.

use std::sync::Arc;

use backends::{Digest, Error, Hasher, Kind, Meta, Proof, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::timeout;

use super::super::authority::{Authority, Placed};
use super::super::bounds::{Bounds, Verify};
use super::super::job::Job;
use super::super::local::Local;
use super::super::pace::Pace;
use super::attempt::Attempt;
use super::relay::{self, Origin, Relay};
use super::within::Within;
use super::{CopyError, End, Fault, Outcome};
use crate::{Router, SizeClass, Zone};

/// The largest blob, in bytes, that is opened at its source before it is known that the target lacks it.
const AHEAD_MAX: u64 = 1 << 20;

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
}

impl Means {
    /// Sees a job to an end.
    pub(in super::super) async fn perform(&self, job: &Job) -> End {
        match self.copy(job).await {
            Ok(outcome) => End::Done(outcome),
            Err(error) if error.fault == Fault::Nowhere && job.attempts + 1 >= self.bounds.nowhere_tries => {
                self.missing(job).await
            }
            Err(error) => End::Failed(error),
        }
    }

    /// Sees to it that the target has the blob, from the best place that gives it, and that the
    /// registry is told.
    ///
    /// The job's size is a client's word, so it never decides alone: an object of another size is
    /// accepted where a second zone agrees or its bytes have been read and hashed, and is replaced
    /// by verified bytes where there are any.
    ///
    /// # Errors
    /// Nothing was written that was not verified; says whose fault it was.
    pub(in super::super) async fn copy(&self, job: &Job) -> Result<Outcome, CopyError> {
        let mut attempt = Attempt::begin(self, job).await?;
        let outcome = attempt.run().await;
        if outcome.is_err() {
            attempt.take_away().await;
        }
        self.tell(job, outcome?).await
    }

    /// Tells the registry that the target has the blob.
    pub(super) async fn tell(&self, job: &Job, outcome: Outcome) -> Result<Outcome, CopyError> {
        let Some(authority) = &self.authority else { return Ok(outcome) };
        let written = matches!(outcome, Outcome::Copied { .. });
        match authority.placed(job, &self.target, written).await {
            Ok(Placed::Kept) => Ok(outcome),
            Ok(Placed::Withdrawn) => Ok(Outcome::Withdrawn),
            Err(why) => Err(CopyError::registry(why)),
        }
    }

    /// Whether an object that is there already counts only after it was read and hashed.
    pub(super) async fn must_prove(&self, job: &Job) -> Result<bool, CopyError> {
        if self.verify == Verify::Deep || self.within.is_unproven(&job.blob.digest) {
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

    /// Whether what lies at the target is the blob, byte for byte.
    pub(super) async fn is_right(&self, job: &Job, there: &Meta) -> Result<bool, CopyError> {
        let _room = self.pace.room(there.size).await;
        let deadline = self.bounds.deadline(there.size, self.pace.slowest(self.bounds.slowest));
        let error = match timeout(deadline, self.prove(job, there)).await {
            Ok(Ok(right)) => return Ok(right),
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Timeout, "read it back"),
        };
        Err(CopyError::target(&self.target, error))
    }

    async fn prove(&self, job: &Job, there: &Meta) -> Result<bool, Error> {
        let Some(object) = self.target.store.get(&job.blob.key, None).await? else { return Ok(false) };
        let mut proof = Proof::new(job.blob.digest, there.size, Hasher::new());
        let mut body = object.body;
        while let Some(mut chunk) = body.try_next().await? {
            if proof.admit(&chunk).is_err() {
                return Ok(false);
            }
            while !chunk.is_empty() {
                self.pace.pass(&mut chunk).await;
            }
        }
        Ok(proof.missing() == 0 && proof.hasher().clone().finish() == job.blob.digest)
    }

    /// Puts the blob of no bytes, which no source needs to give.
    pub(super) async fn put_nothing(&self, job: &Job) -> Result<(), CopyError> {
        let store: &dyn Store = &*self.target.store;
        let put = store.put(&job.blob.key, &Source::bytes(Bytes::new())).await;
        put.map_err(|error| CopyError::target(&self.target, error))
    }
}
