//! One try: what lies at the target, and who gives what should.

use std::collections::HashSet;
use std::sync::Arc;

use backends::{Digest, Error, Kind, Meta};
use tokio::time::timeout;
use tracing::warn;

use super::super::job::Job;
use super::means::Means;
use super::relay::{self, Origin, Record, Relay, Way};
use super::{CopyError, Failure, Outcome};
use crate::Zone;

/// What a copy that is neither in a zone nor at the registry is called.
const LOCAL: &str = "the local copy";

/// A copy for which sources are being tried.
pub(super) struct Attempt<'a> {
    pub(super) means: &'a Means,
    pub(super) job: &'a Job,
    /// Its size, as far as anybody said.
    size: Option<u64>,
    /// What lies at the target, perhaps not the blob.
    there: Option<Meta>,
    /// It was read, and is not the blob.
    pub(super) is_wrong: bool,
    /// And it is we who had it put there.
    pub(super) left_wrong: bool,
    /// Another zone has it in another size than the target.
    contradicted: bool,
    /// What is written if nothing lies at the target, where it can be told without asking the sources.
    quick: Option<Arc<Relay>>,
    /// Those that need not be tried any more.
    spent: HashSet<Arc<str>>,
    failures: Vec<Failure>,
}

impl<'a> Attempt<'a> {
    /// Looks at the target; the first source of a small blob is opened meanwhile.
    pub(super) async fn begin(means: &'a Means, job: &'a Job) -> Result<Self, CopyError> {
        let size = if job.blob.digest == Digest::EMPTY { Some(0) } else { job.size };
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
            size,
            there: there.map_err(|error| CopyError::target(&means.target, error))?,
            is_wrong: false,
            left_wrong: false,
            contradicted: false,
            quick,
            spent: HashSet::new(),
            failures: Vec::new(),
        })
    }

    pub(super) async fn run(&mut self) -> Result<Outcome, CopyError> {
        if self.size.is_some_and(|size| self.has_size(size)) && self.accepts().await? {
            return Ok(Outcome::AlreadyThere);
        }
        if self.job.blob.digest == Digest::EMPTY {
            self.means.put_nothing(self.job).await?;
            return Ok(self.copied(None, 0));
        }
        if let Some(outcome) = self.try_local().await? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.try_quick().await? {
            return Ok(outcome);
        }
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
                Ok(Some(meta)) if self.has_size(meta.size) => {
                    // Two zones against the client's word: the bytes decide.
                    let settled = match self.size {
                        None => self.accepts().await?,
                        Some(_) => self.is_right().await?,
                    };
                    if settled {
                        return Ok(Outcome::AlreadyThere);
                    }
                    doubtful.push((*zone, meta.size));
                }
                Ok(Some(meta)) if self.size.is_some_and(|size| size != meta.size) => {
                    doubtful.push((*zone, meta.size));
                }
                Ok(Some(meta)) => {
                    if let Some(outcome) = self.try_zones(&sources[at..], meta.size).await? {
                        return Ok(outcome);
                    }
                }
                Err(error) => self.note(&zone.name, error),
            }
        }
        for (zone, size) in doubtful {
            if let Some(outcome) = self.try_zones(&[zone], size).await? {
                return Ok(outcome);
            }
        }
        self.settle_alone().await
    }

    fn has_size(&self, size: u64) -> bool {
        !self.is_wrong && self.there.as_ref().is_some_and(|there| there.size == size)
    }

    /// Whether what lies at the target, and has the right size, is taken for the blob.
    async fn accepts(&mut self) -> Result<bool, CopyError> {
        match self.means.must_prove(self.job).await? {
            true => self.is_right().await,
            false => Ok(true),
        }
    }

    /// Whether what lies at the target is the blob, byte for byte.
    async fn is_right(&mut self) -> Result<bool, CopyError> {
        let Some(there) = self.there.as_ref().filter(|_| !self.is_wrong) else { return Ok(false) };
        let right = self.means.is_right(self.job, there).await?;
        self.is_wrong = !right;
        Ok(right)
    }

    fn note(&mut self, from: &Arc<str>, error: Error) {
        warn!(zone = %from, digest = %self.job.blob.digest, %error, "no copy from this zone");
        self.failures.push(Failure { zone: Arc::clone(from), error });
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
    async fn try_local(&mut self) -> Result<Option<Outcome>, CopyError> {
        let Some(local) = &self.means.local else { return Ok(None) };
        let Some(source) = local.find(&self.job.blob.digest).await else { return Ok(None) };
        let size = source.size();
        self.size = Some(size);
        if self.has_size(size) && self.accepts().await? {
            return Ok(Some(Outcome::AlreadyThere));
        }
        let first = Origin { name: LOCAL.into(), way: Way::Source(source) };
        let others = self.means.sources(self.job);
        self.try_origins(std::iter::once(first).chain(relay::origins(&others)).collect(), size).await
    }

    /// Copies from the first of these zones, going on in the others where it breaks off; `None` if
    /// they are to blame.
    async fn try_zones(&mut self, zones: &[&Zone], size: u64) -> Result<Option<Outcome>, CopyError> {
        self.contradicted |= self.there.as_ref().is_some_and(|there| there.size != size);
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
            self.spent.insert(Arc::clone(&origin.name));
            self.note(&origin.name, error);
        }
        if let (Some(error), Some(first), true) = (unsaid, first, self.failures.is_empty()) {
            self.spent.insert(Arc::clone(&first));
            self.note(&first, error);
        }
    }

    /// One `put` out of these; the inner error is theirs.
    async fn put(&self, relay: &Arc<Relay>) -> Result<Result<Outcome, Error>, CopyError> {
        let Means { target, pace, bounds, .. } = self.means;
        let (blob, size) = (&self.job.blob, relay.size());
        let _room = pace.room(size).await;
        let source = relay.source(blob.digest);
        let deadline = bounds.deadline(size, pace.slowest(bounds.slowest));
        let error = match timeout(deadline, target.store.put(&blob.key, &source)).await {
            Ok(Ok(())) => {
                self.means.within.settle(&blob.digest);
                return Ok(Ok(self.copied(relay.giver(), size)));
            }
            Ok(Err(error)) => error,
            // Either end may be the slow one; another source tells.
            Err(_) => {
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
                read = self.is_wrong, "a wrong object was replaced"
            );
        }
        Outcome::Copied { from, bytes, replaced: self.there.is_some() }
    }

    /// No source gave it: is what the target has the blob itself?
    async fn settle_alone(&mut self) -> Result<Outcome, CopyError> {
        if self.there.is_none() || self.is_wrong {
            return Err(CopyError::sources(std::mem::take(&mut self.failures)));
        }
        // Unread only where nobody knows better and nobody failed to say.
        let settled = match self.size.is_none() && !self.contradicted && self.failures.is_empty() {
            true => self.accepts().await?,
            false => self.is_right().await?,
        };
        match settled {
            true => Ok(Outcome::AlreadyThere),
            false => Err(CopyError::sources(std::mem::take(&mut self.failures))),
        }
    }
}
