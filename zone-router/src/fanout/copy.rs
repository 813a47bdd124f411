//! One copy of one blob into one zone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Error, Hasher, Kind, Meta, Proof, Source};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tracing::{info, warn};

use super::bounds::Bounds;
use super::job::Job;
use crate::Zone;

/// How a copy ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target had it.
    AlreadyThere,
    /// It was written and verified.
    Copied {
        /// The zone it was read from; none for the zero-byte blob.
        from: Option<Arc<str>>,
        /// Its size.
        bytes: u64,
    },
}

/// Whose fault a failed copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The target zone did not answer or did not take it.
    Target,
    /// No zone that has it, or might have it, could give it.
    Sources,
    /// Every zone answered, and none has it.
    Nowhere,
}

/// What one zone did wrong.
#[derive(Debug)]
pub struct Failure {
    /// The zone.
    pub zone: Arc<str>,
    /// What it said.
    pub error: Error,
}

impl Failure {
    /// Whether it says something about the zone's health.
    #[must_use]
    pub fn counts(&self) -> bool {
        // A source's own error is wrapped as `Source` on its way through the target's `put`.
        self.error.counts_against_store() || self.error.kind() == Kind::Source
    }
}

/// A copy that failed.
#[derive(Debug)]
pub struct CopyError {
    /// Whose fault.
    pub fault: Fault,
    /// What went wrong where, in order.
    pub failures: Vec<Failure>,
}

impl CopyError {
    fn target(target: &Zone, error: Error) -> Self {
        Self { fault: Fault::Target, failures: vec![Failure { zone: Arc::clone(&target.name), error }] }
    }

    fn sources(failures: Vec<Failure>) -> Self {
        Self { fault: if failures.is_empty() { Fault::Nowhere } else { Fault::Sources }, failures }
    }

    /// Whether the next job would find the same: the target refuses us or does not serve.
    #[must_use]
    pub fn is_target_down(&self) -> bool {
        self.fault == Fault::Target
            && self.failures.iter().any(|failure| {
                matches!(
                    failure.error.kind(),
                    Kind::Unavailable | Kind::Timeout | Kind::Throttled { .. } | Kind::Denied
                )
            })
    }

    /// The longest wait that anyone asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = self.failures.iter().filter_map(|failure| match failure.error.kind() {
            Kind::Throttled { retry_after } => retry_after,
            _ => None,
        });
        asked.max()
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            Fault::Target => "target",
            Fault::Sources => "no source",
            Fault::Nowhere => "no zone has it",
        })?;
        for Failure { zone, error } in &self.failures {
            write!(f, "; {zone}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CopyError {}

/// Sees to it that `target` has the blob, reading from the first of `zones` that gives it.
///
/// The job's size is a client's word, so it never decides alone: an object of another size is
/// accepted where a second zone agrees or its bytes have been read and hashed, and is replaced by
/// verified bytes where there are any.
///
/// # Errors
/// Nothing was written that was not verified; says whose fault it was.
pub async fn copy(job: &Job, target: &Zone, zones: &[Zone], bounds: &Bounds) -> Result<Outcome, CopyError> {
    let size = if job.blob.digest == Digest::EMPTY { Some(0) } else { job.size };
    let there = target.store.head(&job.blob.key).await.map_err(|error| CopyError::target(target, error))?;
    if there.as_ref().is_some_and(|meta| Some(meta.size) == size) {
        return Ok(Outcome::AlreadyThere);
    }
    if job.blob.digest == Digest::EMPTY {
        let source = Source::bytes(Bytes::new());
        target.store.put(&job.blob.key, &source).await.map_err(|error| CopyError::target(target, error))?;
        return Ok(Outcome::Copied { from: None, bytes: 0 });
    }
    let mut attempt = Attempt { job, target, bounds, there, failures: Vec::new(), contradicted: false };
    let mut doubtful = Vec::new();
    for zone in zones.iter().filter(|zone| zone.name != target.name) {
        if let Some(reason) = &zone.unusable {
            // It may have it; known since the start, so no news for the log.
            let error = Error::new(Kind::Invalid, format!("unusable: {reason}"));
            attempt.failures.push(Failure { zone: Arc::clone(&zone.name), error });
            continue;
        }
        match zone.store.head(&job.blob.key).await {
            Ok(None) => {}
            Ok(Some(meta)) if attempt.agrees(&meta) => {
                // Two zones against the client's word: the bytes decide.
                if size.is_none() || attempt.is_there().await? {
                    return Ok(Outcome::AlreadyThere);
                }
                doubtful.push((zone, meta));
            }
            Ok(Some(meta)) if size.is_some_and(|size| size != meta.size) => doubtful.push((zone, meta)),
            Ok(Some(meta)) => {
                if let Some(outcome) = attempt.from(zone, &meta).await? {
                    return Ok(outcome);
                }
            }
            Err(error) => attempt.note(zone, error),
        }
    }
    for (zone, meta) in doubtful {
        if let Some(outcome) = attempt.from(zone, &meta).await? {
            return Ok(outcome);
        }
    }
    attempt.settle_alone(size).await
}

/// A copy for which sources are being tried.
struct Attempt<'a> {
    job: &'a Job,
    target: &'a Zone,
    bounds: &'a Bounds,
    /// What lies at the target, perhaps not the blob.
    there: Option<Meta>,
    failures: Vec<Failure>,
    /// Another zone has it in another size than the target.
    contradicted: bool,
}

impl Attempt<'_> {
    fn note(&mut self, zone: &Zone, error: Error) {
        warn!(zone = %zone.name, digest = %self.job.blob.digest, %error, "no copy from this zone");
        self.failures.push(Failure { zone: Arc::clone(&zone.name), error });
    }

    /// Copies from one zone; `None` if that zone is to blame and the next one may do.
    async fn from(&mut self, zone: &Zone, meta: &Meta) -> Result<Option<Outcome>, CopyError> {
        let Job { blob, .. } = self.job;
        if let Some(there) = &self.there {
            self.contradicted = true;
            info!(
                target_zone = %self.target.name, digest = %blob.digest, size = there.size, expected = meta.size,
                "the target's object has another size: replacing it"
            );
        }
        let source = Source::object(Arc::clone(&zone.store), blob.key.clone(), meta.size, blob.digest);
        let deadline = self.bounds.deadline(meta.size);
        let error = match tokio::time::timeout(deadline, self.target.store.put(&blob.key, &source)).await {
            Ok(Ok(())) => {
                let from = Some(Arc::clone(&zone.name));
                return Ok(Some(Outcome::Copied { from, bytes: meta.size }));
            }
            Ok(Err(error)) => error,
            Err(_) => {
                // Either end may be the slow one; another source tells.
                let late = format!("copy {}: not done in {} s", blob.key, deadline.as_secs());
                self.note(zone, Error::new(Kind::Timeout, late));
                return Ok(None);
            }
        };
        if !matches!(error.kind(), Kind::Source | Kind::Corrupt) {
            return Err(CopyError::target(self.target, error));
        }
        self.note(zone, error);
        Ok(None)
    }

    /// No source gave it: is what the target has the blob itself?
    async fn settle_alone(self, size: Option<u64>) -> Result<Outcome, CopyError> {
        let Some(there) = self.there.clone() else { return Err(CopyError::sources(self.failures)) };
        // Unread only where nobody knows better and nobody failed to say.
        if size.is_none() && !self.contradicted && self.failures.is_empty() {
            return Ok(Outcome::AlreadyThere);
        }
        match self.read_back(&there).await? {
            true => Ok(Outcome::AlreadyThere),
            false => Err(CopyError::sources(self.failures)),
        }
    }

    /// Whether another zone's object has the size of the target's.
    fn agrees(&self, meta: &Meta) -> bool {
        self.there.as_ref().is_some_and(|there| there.size == meta.size)
    }

    /// Whether the target has the blob, byte for byte.
    async fn is_there(&self) -> Result<bool, CopyError> {
        match &self.there {
            Some(there) => self.read_back(there).await,
            None => Ok(false),
        }
    }

    async fn read_back(&self, there: &Meta) -> Result<bool, CopyError> {
        let proven = prove(self.job, self.target, there);
        match tokio::time::timeout(self.bounds.deadline(there.size), proven).await {
            Ok(Ok(proven)) => Ok(proven),
            Ok(Err(error)) => Err(CopyError::target(self.target, error)),
            Err(_) => Err(CopyError::target(self.target, Error::new(Kind::Timeout, "read it back"))),
        }
    }
}

/// Whether the bytes at the target are those of the blob.
async fn prove(job: &Job, target: &Zone, there: &Meta) -> Result<bool, Error> {
    let Some(object) = target.store.get(&job.blob.key, None).await? else { return Ok(false) };
    let mut proof = Proof::new(job.blob.digest, there.size, Hasher::new());
    let mut body = object.body;
    while let Some(chunk) = body.try_next().await? {
        if proof.admit(&chunk).is_err() {
            return Ok(false);
        }
    }
    Ok(proof.missing() == 0 && proof.hasher().clone().finish() == job.blob.digest)
}
