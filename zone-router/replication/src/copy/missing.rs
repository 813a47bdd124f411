//! A blob that no zone has: deleted meanwhile, never there, or where only the registry finds it.

use std::sync::Arc;

use backends::{Kind, Source};
use tokio::time::timeout;

use super::super::authority::{Authority, Wanted};
use super::super::job::Job;
use super::means::Means;
use super::relay::{Origin, Way};
use super::{CopyError, End, Outcome};

/// Why a job is parked where nobody can be asked.
const NOBODY: &str = "whether the registry still wants it cannot be asked: set registry.account";

/// What the registry is called as a source.
const REGISTRY: &str = "the registry";

impl Means {
    /// The end of a job whose blob no zone has: what the registry has no more is not brought back,
    /// and what it has comes from itself. `absent`: nothing lies at the target either.
    pub(super) async fn missing(&self, job: &Job, absent: bool) -> End {
        let lacking = match absent {
            true => "no zone has it",
            false => "no zone has it, other bytes lie at the target",
        };
        let Some(authority) = &self.authority else { return End::Parked(format!("{lacking}, and {NOBODY}")) };
        match authority.wanted(job).await {
            Wanted::No => End::Done(Outcome::Withdrawn),
            Wanted::Unknown(why) => {
                End::Parked(format!("{lacking}, and the registry does not say whether it wants it: {why}"))
            }
            Wanted::Yes => match self.fetched(&**authority, job, lacking).await {
                Ok(end) => end,
                Err(error) => End::Failed(error),
            },
        }
    }

    async fn fetched(&self, authority: &dyn Authority, job: &Job, lacking: &str) -> Result<End, CopyError> {
        let parked = |why: &str| Ok(End::Parked(format!("{lacking}, and the registry {why}")));
        let Some(source) = authority.fetch(job).await.map_err(CopyError::registry)? else {
            return parked("gives it neither, although it knows it");
        };
        if source.digest() != job.blob.digest {
            return parked("gives another blob");
        }
        match self.put_from_registry(job, source).await? {
            Some(outcome) => Ok(End::Done(self.tell(job, outcome).await?)),
            None => parked("gives other bytes than its digest says"),
        }
    }

    /// Writes what the registry gives; `None` if that is not the blob.
    async fn put_from_registry(&self, job: &Job, source: Source) -> Result<Option<Outcome>, CopyError> {
        let (key, size) = (&job.blob.key, source.size());
        let there = self.target.store.head(key).await;
        let replaced = there.map_err(|error| CopyError::target(&self.target, error))?.is_some();
        let origin = Origin { name: REGISTRY.into(), way: Way::Source(source) };
        let _room = self.pace.room(size).await;
        let relay = self.relay(job, size, vec![origin]);
        let deadline = self.bounds.deadline(size, self.pace.slowest(self.bounds.slowest));
        match timeout(deadline, self.target.store.put(key, &relay.source(job.blob.digest))).await {
            Ok(Ok(())) => {
                let from = Some(Arc::from(REGISTRY));
                Ok(Some(Outcome::Copied { from, bytes: size, replaced }))
            }
            Ok(Err(error)) if error.kind() == Kind::Corrupt && error.code().is_none() => Ok(None),
            Ok(Err(error)) if error.kind() == Kind::Source => Err(CopyError::registry(error.to_string())),
            Ok(Err(error)) => Err(CopyError::target(&self.target, error)),
            Err(_) => Err(CopyError::registry(format!("gave it not within {} s", deadline.as_secs()))),
        }
    }
}
