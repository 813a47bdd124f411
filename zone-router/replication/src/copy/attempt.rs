//! One try: what lies at the target, and who gives what should.

use std::collections::HashSet;
use std::sync::Arc;

use backends::{Digest, Error, Kind, Meta, Source};
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::warn;
use zone_router::Zone;

use super::super::job::Job;
use super::means::{Means, Read};
use super::relay::{self, Origin, Record, Relay, Way};
use super::{CopyError, Failure, Fault, Outcome};

/// What a copy that is neither in a zone nor at the registry is called.
const LOCAL: &str = "the local copy";

/// A copy for which sources are being tried.
pub(super) struct Attempt<'a> {
    pub(super) means: &'a Means,
    pub(super) job: &'a Job,
    /// Its size, as far as anybody said.
    size: Option<u64>,
    /// What lies at the target. After [`Attempt::is_right`] said no, it is another object than the blob.
    pub(super) there: Option<Meta>,
    /// Why that could not be read to its end, if it could not.
    unreadable: Option<Error>,
    /// What is written if nothing lies at the target, where it can be told without asking the sources.
    quick: Option<Arc<Relay>>,
    /// Whether a write of this try may have made the object appear although it failed, or still may.
    pub(super) in_doubt: bool,
    /// Those that need not be tried any more.
    spent: HashSet<Arc<str>>,
    failures: Vec<Failure>,
}

impl<'a> Attempt<'a> {
    /// Looks at the target; the first source of a small blob is opened meanwhile.
    pub(super) async fn begin(means: &'a Means, job: &'a Job) -> Result<Self, CopyError> {
        let quick = means.quick(job);
        let ahead = async {
            if let Some(relay) = quick.as_ref().filter(|_| means.opens_ahead(job)) {
                relay.open_ahead().await;
            }
        };
        let (there, ()) = tokio::join!(means.target.store.head(&job.blob.key), ahead);
        Ok(Self {
            means,
            job,
            size: job.size,
            there: there.map_err(|error| CopyError::target(&means.target, error))?,
            unreadable: None,
            quick,
            in_doubt: false,
            spent: HashSet::new(),
            failures: Vec::new(),
        })
    }

    pub(super) async fn run(&mut self) -> Result<Outcome, CopyError> {
        if self.job.blob.digest == Digest::EMPTY {
            return self.put_nothing().await;
        }
        let local = match &self.means.local {
            Some(local) => local.find(&self.job.blob.digest).await,
            None => None,
        };
        if let Some(there) = self.there.clone()
            && self.is_right(&there, local.as_ref().map(Source::size)).await?
        {
            return Ok(Outcome::AlreadyThere);
        }
        if let Some(source) = local
            && let Some(outcome) = self.try_local(source).await?
        {
            return Ok(outcome);
        }
        if let Some(outcome) = self.try_quick().await? {
            return Ok(outcome);
        }
        match self.try_sources().await? {
            Some(outcome) => Ok(outcome),
            None => Err(self.failed()),
        }
    }

    /// No other blob has no bytes, and this one needs no source.
    async fn put_nothing(&mut self) -> Result<Outcome, CopyError> {
        if self.there.as_ref().is_some_and(|there| there.size == 0) {
            return Ok(Outcome::AlreadyThere);
        }
        self.means.put_nothing(self.job).await?;
        Ok(self.copied(None, 0))
    }

    /// Whether what lies at the target is the blob; `proven` is its size where it is known by the digest.
    ///
    /// The size of what lies there says so only where everybody who knows one says the same. A client's
    /// word alone would keep a wrong object from being replaced, or have a right one written anew; so
    /// where any two disagree, where nobody says a size, and where the job asks for it, the bytes decide.
    async fn is_right(&mut self, there: &Meta, proven: Option<u64>) -> Result<bool, CopyError> {
        let agreed = match proven {
            Some(size) if size != there.size => return Ok(false),
            _ if self.job.must_read() => false,
            Some(_) => true,
            None => self.agreed(there.size).await,
        };
        if agreed && !self.means.must_prove(self.job).await? {
            return Ok(true);
        }
        let Means { target, pace, proven, .. } = self.means;
        if proven.holds(self.job, there) {
            return Ok(true);
        }
        // Its size is not the blob's as long as it is not read.
        let _room = pace.room_as_said(self.job.size, there.size).await.map_err(|_| CopyError::later(0))?;
        match self.means.read(&*target.store, self.job, there.size).await {
            Ok(Read::Right(..)) => {
                proven.note(self.job, there.clone());
                return Ok(true);
            }
            Ok(Read::Wrong) => {}
            Ok(Read::Gone) => self.there = None,
            // Such an object is lost to readers too, and verified bytes may take its place.
            Ok(Read::Broken(error)) | Err(error) => self.unreadable = Some(error),
        }
        Ok(false)
    }

    /// Whether somebody says a size, and all who do say this one: the job, if it does, and every other zone
    /// that has the blob. The job alone, which says what a client said, is enough only where every other zone
    /// was asked and answered: one that does not may hold the blob in another size.
    async fn agreed(&self, size: u64) -> bool {
        if self.size.is_some_and(|said| said != size) {
            return false;
        }
        let others = self.means.sources(self.job);
        let asked = others.iter().filter(|zone| zone.unusable.is_none() && !self.means.is_out_of_use(zone));
        let said = join_all(asked.map(|zone| zone.store.head(&self.job.blob.key))).await;
        let mut confirmed = false;
        for other in said.iter().flatten().flatten() {
            if other.size != size {
                return false;
            }
            confirmed = true;
        }
        let all_answered = said.len() == others.len() && said.iter().all(Result::is_ok);
        confirmed || (self.size.is_some() && all_answered)
    }

    fn note(&mut self, from: &Arc<str>, error: Error) {
        warn!(zone = %from, digest = %self.job.blob.digest, %error, "no copy from this zone");
        self.failures.push(Failure { zone: Arc::clone(from), error });
    }

    /// A source that gave other bytes than the blob's.
    pub(super) fn spend(&mut self, zone: &Arc<str>, error: Error) {
        self.spent.insert(Arc::clone(zone));
        self.note(zone, error);
    }

    /// The first try of nearly every job: the size is known and right, the best source has it, nothing
    /// lies at the target. If that is not so, all are asked, but for those that failed.
    async fn try_quick(&mut self) -> Result<Option<Outcome>, CopyError> {
        let Some(relay) = self.quick.take().filter(|_| self.there.is_none()) else { return Ok(None) };
        match self.put(&relay).await? {
            Ok(outcome) => Ok(Some(outcome)),
            // Nobody has it in this size.
            Err(_) if relay.is_blameless() => Ok(None),
            Err(error) => self.after(&relay, error).await,
        }
    }

    /// Copies what is at hand; that is known to be right.
    async fn try_local(&mut self, source: Source) -> Result<Option<Outcome>, CopyError> {
        let size = source.size();
        self.size = Some(size);
        let first = Origin { name: LOCAL.into(), way: Way::Source(source) };
        let others = self.means.sources(self.job);
        self.try_origins(std::iter::once(first).chain(relay::origins(&others)).collect(), size).await
    }

    /// Asks every source what it has. Those whose size is not the one that was said come last.
    async fn try_sources(&mut self) -> Result<Option<Outcome>, CopyError> {
        let sources = self.means.sources(self.job);
        let mut doubtful = Vec::new();
        for (at, zone) in sources.iter().enumerate() {
            if self.spent.contains(&zone.name) {
                continue;
            }
            if let Some(reason) = &zone.unusable {
                // It may have it; known since the start, so no news for the log.
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
                Err(error) => self.note(&zone.name, error),
            }
        }
        for (zone, size) in doubtful {
            if let Some(outcome) = self.try_zones(&[zone], size).await? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Copies from the first of these zones, going on in the others where it breaks off; `None` if
    /// they are to blame.
    async fn try_zones(&mut self, zones: &[&Zone], size: u64) -> Result<Option<Outcome>, CopyError> {
        if let Some(zone) = zones.first()
            && !self.spent.contains(&zone.name)
            && let Some(outcome) = self.within(zone, size).await?
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
        origins.retain(|origin| !self.spent.contains(&origin.name));
        if origins.is_empty() {
            return Ok(None);
        }
        let relay = self.means.relay(self.job, size, origins);
        match self.put(&relay).await? {
            Ok(outcome) => Ok(Some(outcome)),
            Err(error) => self.after(&relay, error).await,
        }
    }

    /// Finds out who is to blame for a `put` that its sources failed.
    async fn after(&mut self, relay: &Relay, error: Error) -> Result<Option<Outcome>, CopyError> {
        let (records, size) = (relay.take(), relay.size());
        let several = records.iter().filter(|(_, record)| record.took_part()).count() > 1;
        if error.kind() == Kind::Corrupt && several {
            // One of them lied, nobody knows which: each alone, then.
            for (origin, _) in records.into_iter().filter(|(_, record)| record.took_part()) {
                let relay = self.means.relay(self.job, size, vec![origin]);
                match self.put(&relay).await? {
                    Ok(outcome) => return Ok(Some(outcome)),
                    Err(error) => self.blame(relay.take(), error),
                }
            }
            return Ok(None);
        }
        self.blame(records, error);
        Ok(None)
    }

    /// Keeps who failed, or gave what is wrong; they are not tried again.
    fn blame(&mut self, records: Vec<(Origin, Record)>, error: Error) {
        let mut unsaid = Some(error);
        let first = records.first().map(|(origin, _)| Arc::clone(&origin.name));
        for (origin, record) in records {
            let error = match record.error {
                Some(error) => error,
                // What the whole died of is the word on who gave the bytes.
                None if record.took_part() => match unsaid.take() {
                    Some(error) => error,
                    None => continue,
                },
                None => continue,
            };
            self.spend(&origin.name, error);
        }
        if let (Some(error), Some(first), true) = (unsaid, first, self.failures.is_empty()) {
            self.spend(&first, error);
        }
    }

    /// One `put` out of these; the inner error is theirs.
    async fn put(&mut self, relay: &Arc<Relay>) -> Result<Result<Outcome, Error>, CopyError> {
        let Means { target, pace, bounds, .. } = self.means;
        let (blob, size) = (&self.job.blob, relay.size());
        let _room = pace.room_as_said(self.job.size, size).await.map_err(|_| CopyError::later(size))?;
        let source = relay.source(blob.digest);
        let deadline = bounds.deadline(size, pace.slowest(bounds.slowest));
        let error = match timeout(deadline, target.store.put(&blob.key, &source)).await {
            Ok(Ok(())) => return Ok(Ok(self.copied(relay.giver(), size))),
            Ok(Err(error)) => {
                self.in_doubt |= error.has_unknown_outcome();
                error
            }
            // Either end may be the slow one; another source tells.
            Err(_) => {
                self.in_doubt = true;
                let late = format!("copy {}: not done in {} s", blob.key, deadline.as_secs());
                Error::new(Kind::Source, late)
            }
        };
        match error.kind() {
            Kind::Source => Ok(Err(error)),
            // What the store itself refuses was right when it left here.
            Kind::Corrupt if error.code().is_none() => Ok(Err(error)),
            _ => Err(CopyError::target(target, error)),
        }
    }

    /// The outcome of a copy; what was replaced is shouted, as somebody may have been served it.
    pub(super) fn copied(&self, from: Option<Arc<str>>, bytes: u64) -> Outcome {
        if let Some(there) = &self.there {
            warn!(
                zone = %self.means.target.name, digest = %self.job.blob.digest, size = there.size, right_size = bytes,
                "a wrong object was replaced"
            );
        }
        Outcome::Copied { from, bytes, replaced: self.there.is_some() }
    }

    /// No source gave it. Wrong bytes at the target stay, and are told of: nobody knows whether they are
    /// all that is left.
    fn failed(&mut self) -> CopyError {
        let mut error = CopyError::sources(std::mem::take(&mut self.failures));
        let target = &self.means.target;
        let there = match self.unreadable.take() {
            // It may be the blob.
            Some(unread) if error.fault == Fault::Nowhere => return CopyError::target(target, unread),
            Some(unread) => unread,
            None if self.there.is_none() => return error,
            None => Error::new(Kind::Corrupt, "the object there is not the blob, and stays as it is"),
        };
        error.failures.push(Failure { zone: Arc::clone(&target.name), error: there });
        error
    }
}
