//! One try of a copy: checks the object at the target, and chooses the source of the blob.

use std::collections::HashSet;
use std::sync::Arc;

use backends::{Digest, Error, Kind, Meta, Source};
use futures_util::future::join_all;
use tracing::warn;
use zone_router::Zone;

use super::super::job::{FoundSize, Job};
use super::copier::{Copier, Read};
use super::relay::{self, Access, Origin, Record, Relay};
use super::{CopyError, Failure, Fault, Outcome};

/// The name of the source that is neither a zone nor the registry.
const LOCAL: &str = "the local copy";

/// One try of a job.
pub(super) struct Attempt<'a> {
    pub(super) copier: &'a Copier,
    pub(super) job: &'a Job,
    /// The blob's size, if it is stated.
    size: Option<u64>,
    /// The object at the target. After [`Attempt::is_right`] returned `false`, it is not the blob.
    pub(super) existing: Option<Meta>,
    /// The error, if that object could not be read to its end.
    unreadable: Option<Error>,
    /// Whether the target showed that object at `HEAD` but did not return it at `GET`.
    is_not_returned: bool,
    /// The relay of the fast path: if the target has no object, the blob is written from it without asking all sources
    /// first.
    fast_path: Option<Arc<Relay>>,
    /// Whether a failed write of this try may have made an object appear, or still may.
    pub(super) in_doubt: bool,
    /// The sources that are not tried any more.
    excluded: HashSet<Arc<str>>,
    failures: Vec<Failure>,
}

impl<'a> Attempt<'a> {
    /// Checks the target, and records that the job may write from now on. If the blob is small, opens its
    /// first source at the same time.
    pub(super) async fn begin(copier: &'a Copier, job: &'a Job) -> Result<Self, CopyError> {
        let fast_path = copier.fast_path(job);
        let ahead = async {
            if let Some(relay) = fast_path.as_ref().filter(|_| copier.opens_ahead(job)) {
                relay.open_ahead().await;
            }
        };
        let head = copier.target.store.head(&job.blob.key);
        let (existing, begun, ()) = tokio::join!(head, copier.journal.begin(job), ahead);
        begun.map_err(CopyError::journal)?;
        Ok(Self {
            copier,
            job,
            size: job.size.filter(|_| !job.must_read()),
            existing: existing.map_err(|error| CopyError::target(&copier.target, error))?,
            unreadable: None,
            is_not_returned: false,
            fast_path,
            in_doubt: false,
            excluded: HashSet::new(),
            failures: Vec::new(),
        })
    }

    pub(super) async fn run(&mut self) -> Result<Outcome, CopyError> {
        if self.job.blob.digest == Digest::EMPTY {
            return self.put_empty().await;
        }
        let local = match &self.copier.local {
            Some(local) => local.find(&self.job.blob.digest).await,
            None => None,
        };
        if let Some(existing) = self.existing.clone()
            && self.is_right(&existing, local.as_ref().map(Source::size)).await?
        {
            return Ok(Outcome::AlreadyThere);
        }
        if let Some(source) = local {
            let tried = self.try_local(source).await;
            self.distrust_local().await;
            if let Some(outcome) = tried? {
                return Ok(outcome);
            }
        }
        if let Some(outcome) = self.try_fast_path().await? {
            return Ok(outcome);
        }
        match self.try_sources().await? {
            Some(outcome) => Ok(outcome),
            None => Err(self.failed()),
        }
    }

    /// The empty blob is the only one without bytes, and needs no source.
    async fn put_empty(&mut self) -> Result<Outcome, CopyError> {
        if self.existing.as_ref().is_some_and(|existing| existing.size == 0) {
            return Ok(Outcome::AlreadyThere);
        }
        self.copier.put_empty(self.job).await?;
        Ok(self.copied(None, 0))
    }

    /// Whether the object at the target is the blob. `proven` is the size of the blob, if a verified copy states it.
    ///
    /// The size of the object decides only if all stated sizes agree. A client's statement alone is not enough: it
    /// could keep a wrong object from being replaced, or cause a right one to be written again. The object is read and
    /// hashed if two sizes differ, if no size is stated, or if the job has the read mark.
    async fn is_right(&mut self, existing: &Meta, proven: Option<u64>) -> Result<bool, CopyError> {
        if !self.job.blob.digest.may_have(existing.size) {
            return Ok(false);
        }
        let agreed = match proven {
            Some(size) if size != existing.size => return Ok(false),
            _ if self.job.must_read() => false,
            Some(_) => true,
            None => self.size_is_agreed(existing.size).await,
        };
        if agreed && !self.copier.must_prove(self.job).await? {
            return Ok(true);
        }
        let Copier { target, throttle, verified, .. } = self.copier;
        if verified.contains(self.job, existing) {
            return Ok(true);
        }
        // Until the object is read, it is not known whether it has the size of the blob.
        let reservation = throttle.reserve_as_stated(self.job.size, existing.size).await;
        let _reservation = reservation.map_err(|_| CopyError::deferred(FoundSize::Contradicted))?;
        match self.copier.read(&*target.store, self.job, existing.size).await {
            Ok(Read::Right(..)) => {
                verified.remember(self.job, existing.clone());
                return Ok(true);
            }
            Ok(Read::Wrong) => {}
            Ok(Read::Gone) => self.is_not_returned = true,
            // Readers cannot use such an object either, so verified bytes may replace it.
            Ok(Read::Broken(error)) | Err(error) => self.unreadable = Some(error),
        }
        Ok(false)
    }

    /// Whether there is a stated size and all stated sizes are equal to `size`. They are the size that the job states,
    /// and the sizes of every other zone that has the blob. The job states what a client stated. That alone is enough
    /// only if every other zone answered, because a zone that does not answer may hold the blob in another size.
    async fn size_is_agreed(&self, size: u64) -> bool {
        if self.job.is_contradicted || self.size.is_some_and(|said| said != size) {
            return false;
        }
        let others = self.copier.sources(self.job);
        let asked = others.iter().filter(|zone| zone.unusable.is_none() && !self.copier.is_open(zone));
        let answers = join_all(asked.map(|zone| zone.store.head(&self.job.blob.key))).await;
        let mut confirmed = false;
        for other in answers.iter().flatten().flatten() {
            if other.size != size {
                return false;
            }
            confirmed = true;
        }
        let all_answered = answers.len() == others.len() && answers.iter().all(Result::is_ok);
        confirmed || (self.size.is_some() && all_answered)
    }

    fn record_failure(&mut self, from: &Arc<str>, error: Error) {
        warn!(zone = %from, digest = %self.job.blob.digest, %error, "no copy from this zone");
        self.failures.push(Failure { zone: Arc::clone(from), error });
    }

    /// Excludes a source that failed, or whose bytes are not the blob.
    pub(super) fn exclude(&mut self, zone: &Arc<str>, error: Error) {
        self.excluded.insert(Arc::clone(zone));
        self.record_failure(zone, error);
    }

    /// Tries the usual case: the stated size is right, the best source has the blob, and the target has no object. In
    /// any other case, all sources are asked, except those that failed here.
    async fn try_fast_path(&mut self) -> Result<Option<Outcome>, CopyError> {
        let Some(relay) = self.fast_path.take().filter(|_| self.existing.is_none()) else { return Ok(None) };
        match self.put(&relay).await? {
            Ok(outcome) => Ok(Some(outcome)),
            // No source has the blob in this size.
            Err(_) if relay.is_untouched() => Ok(None),
            Err(error) => self.attribute_failure(&relay, error).await,
        }
    }

    /// Copies from the local source, whose bytes were verified.
    async fn try_local(&mut self, source: Source) -> Result<Option<Outcome>, CopyError> {
        let size = source.size();
        self.size = Some(size);
        let first = Origin { name: LOCAL.into(), access: Access::Source(source) };
        let others = self.copier.sources(self.job);
        self.try_origins(std::iter::once(first).chain(relay::origins(&others)).collect(), size).await
    }

    /// Tells the local source that it gave wrong bytes, so that it does not give them to others.
    async fn distrust_local(&self) {
        let is_wrong = |failure: &Failure| &*failure.zone == LOCAL && failure.error.kind() == Kind::Corrupt;
        if let Some(local) = &self.copier.local
            && self.failures.iter().any(is_wrong)
        {
            local.distrust(&self.job.blob.digest).await;
        }
    }

    /// Asks every source for its object. Sources with another size than the stated one come last.
    async fn try_sources(&mut self) -> Result<Option<Outcome>, CopyError> {
        let sources = self.copier.sources(self.job);
        let mut doubtful = Vec::new();
        for (at, zone) in sources.iter().enumerate() {
            if self.excluded.contains(&zone.name) {
                continue;
            }
            if let Some(reason) = &zone.unusable {
                // The zone may have the blob. This is not logged, because the zone has been unusable since
                // the start.
                let error = Error::new(Kind::Invalid, format!("unusable: {reason}"));
                self.failures.push(Failure { zone: Arc::clone(&zone.name), error });
                continue;
            }
            match zone.store.head(&self.job.blob.key).await {
                Ok(None) => {}
                Ok(Some(meta)) if self.size.is_some_and(|size| size != meta.size) => {
                    doubtful.push((*zone, meta.size));
                }
                Ok(Some(meta)) => {
                    if let Some(outcome) = self.try_zones(&sources[at..], meta.size).await? {
                        return Ok(Some(outcome));
                    }
                }
                Err(error) => self.record_failure(&zone.name, error),
            }
        }
        for (zone, size) in doubtful {
            if let Some(outcome) = self.try_zones(&[zone], size).await? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Copies from the first of these zones. If it breaks off, continues with the others. `None` if the
    /// sources failed.
    async fn try_zones(&mut self, zones: &[&Zone], size: u64) -> Result<Option<Outcome>, CopyError> {
        if let Some(zone) = zones.first()
            && !self.excluded.contains(&zone.name)
            && let Some(outcome) = self.copy_server_side(zone, size).await?
        {
            return Ok(Some(outcome));
        }
        self.try_origins(relay::origins(zones).collect(), size).await
    }

    async fn try_origins(
        &mut self,
        mut origins: Vec<Origin>,
        size: u64,
    ) -> Result<Option<Outcome>, CopyError> {
        origins.retain(|origin| !self.excluded.contains(&origin.name));
        if origins.is_empty() {
            return Ok(None);
        }
        let relay = self.copier.relay(self.job, size, origins);
        match self.put(&relay).await? {
            Ok(outcome) => Ok(Some(outcome)),
            Err(error) => self.attribute_failure(&relay, error).await,
        }
    }

    /// Finds out which source made a `put` fail.
    async fn attribute_failure(&mut self, relay: &Relay, error: Error) -> Result<Option<Outcome>, CopyError> {
        let (records, size) = (relay.take_records(), relay.size());
        let several = records.iter().filter(|(_, record)| record.took_part()).count() > 1;
        if error.kind() == Kind::Corrupt && several {
            // One of the sources gave wrong bytes, and it is not known which one. Therefore each is tried alone.
            for (origin, _) in records.into_iter().filter(|(_, record)| record.took_part()) {
                let relay = self.copier.relay(self.job, size, vec![origin]);
                match self.put(&relay).await? {
                    Ok(outcome) => return Ok(Some(outcome)),
                    Err(error) => self.exclude_failed(relay.take_records(), error),
                }
            }
            return Ok(None);
        }
        self.exclude_failed(records, error);
        Ok(None)
    }

    /// Excludes the sources that failed or gave wrong bytes.
    fn exclude_failed(&mut self, records: Vec<(Origin, Record)>, error: Error) {
        let mut overall = Some(error);
        let first = records.first().map(|(origin, _)| Arc::clone(&origin.name));
        for (origin, record) in records {
            let error = match record.error {
                Some(error) => error,
                // The error of the whole copy is attributed to the source that gave the bytes.
                None if record.took_part() => match overall.take() {
                    Some(error) => error,
                    None => continue,
                },
                None => continue,
            };
            self.exclude(&origin.name, error);
        }
        if let (Some(error), Some(first), true) = (overall, first, self.failures.is_empty()) {
            self.exclude(&first, error);
        }
    }

    /// Writes from this relay with one `put`. The inner error is caused by the sources, the outer one by the
    /// target.
    async fn put(&mut self, relay: &Arc<Relay>) -> Result<Result<Outcome, Error>, CopyError> {
        let Copier { target, throttle, .. } = self.copier;
        let size = relay.size();
        let reservation = throttle.reserve_as_stated(self.job.size, size).await;
        let _reservation = reservation.map_err(|_| CopyError::deferred(FoundSize::Bytes(size)))?;
        let Err(error) = self.copier.put(self.job, relay).await else {
            return Ok(Ok(self.copied(relay.main_origin(), size)));
        };
        self.in_doubt |= error.has_unknown_outcome();
        match error.kind() {
            Kind::Source => Ok(Err(error)),
            // If the store itself refuses the bytes, they were right when they were sent.
            Kind::Corrupt if error.code().is_none() => Ok(Err(error)),
            _ => Err(CopyError::target(target, error)),
        }
    }

    /// Returns the outcome of a copy. If the copy replaced an object, logs that, because clients may have read the
    /// object.
    pub(super) fn copied(&self, from: Option<Arc<str>>, bytes: u64) -> Outcome {
        if let Some(existing) = &self.existing {
            warn!(
                zone = %self.copier.target.name, digest = %self.job.blob.digest, size = existing.size, right_size = bytes,
                "a wrong object was replaced"
            );
        }
        Outcome::Copied { from, bytes, replaced: self.existing.is_some() }
    }

    /// Returns the error if no source gave the blob. A wrong object at the target is reported and not changed, because
    /// it may be all that is left of the blob.
    fn failed(&mut self) -> CopyError {
        let mut error = CopyError::sources(std::mem::take(&mut self.failures));
        let target = &self.copier.target;
        let wrong = match self.unreadable.take() {
            // The unreadable object may be the blob.
            Some(unread) if error.fault == Fault::Nowhere => return CopyError::target(target, unread),
            Some(unread) => unread,
            None if self.existing.is_none() => return error,
            None if self.is_not_returned => {
                Error::new(Kind::Unavailable, "the object at the target is shown, but not returned")
            }
            None => {
                Error::new(Kind::Corrupt, "the object at the target is not the blob, and is left as it is")
            }
        };
        error.failures.push(Failure { zone: Arc::clone(&target.name), error: wrong });
        error
    }
}
