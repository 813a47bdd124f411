//! Handles a blob that no zone has: it was deleted meanwhile, it never existed, or only the registry can read
//! it.

use std::sync::Arc;

use backends::{Kind, Source};

use super::super::authority::{Authority, AuthorityError, Wanted};
use super::super::job::Job;
use super::copier::Copier;
use super::relay::{Access, Origin};
use super::{CopyError, JobEnd, Outcome};

/// Why a job is parked if there is no registry to ask.
const NO_ACCOUNT: &str = "the registry cannot be asked whether it still wants it: set registry.account";

/// The name of the registry as a source.
const REGISTRY: &str = "the registry";

impl Copier {
    /// Ends a job whose blob no zone has. If the registry no longer has the blob, the job is withdrawn. If it
    /// has the blob, the blob is read from the registry. `absent` says that the target has no object either.
    pub(super) async fn missing(&self, job: &Job, absent: bool) -> JobEnd {
        let lacking = match absent {
            true => "no zone has it",
            false => "no zone has it, and the object at the target is not it, or is not returned",
        };
        let Some(authority) = &self.authority else {
            return JobEnd::Parked(format!("{lacking}, and {NO_ACCOUNT}"));
        };
        match authority.wanted(job).await {
            Wanted::No => JobEnd::Done(Outcome::Withdrawn),
            Wanted::Unknown(why) => {
                JobEnd::Parked(format!("{lacking}, and the registry does not say whether it wants it: {why}"))
            }
            Wanted::Yes => match self.fetch(&**authority, job, lacking).await {
                Ok(end) => end,
                Err(error) => JobEnd::Failed(error),
            },
        }
    }

    async fn fetch(&self, authority: &dyn Authority, job: &Job, lacking: &str) -> Result<JobEnd, CopyError> {
        let parked = |why: &str| Ok(JobEnd::Parked(format!("{lacking}, and the registry {why}")));
        let Some(source) = authority.fetch(job).await.map_err(CopyError::registry)? else {
            return parked("does not return it, although it knows it");
        };
        if source.digest() != job.blob.digest {
            return parked("returns another blob");
        }
        match self.put_from_registry(job, source).await? {
            Some(outcome) => Ok(JobEnd::Done(self.report(job, outcome).await?)),
            None => parked("returns other bytes than its digest says"),
        }
    }

    /// Writes the bytes that the registry returns. `None` if they are not the blob.
    async fn put_from_registry(&self, job: &Job, source: Source) -> Result<Option<Outcome>, CopyError> {
        let (key, size) = (&job.blob.key, source.size());
        let there = self.target.store.head(key).await;
        let replaced = there.map_err(|error| CopyError::target(&self.target, error))?.is_some();
        let origin = Origin { name: REGISTRY.into(), access: Access::Source(source) };
        let _reservation = self.throttle.reserve(size).await;
        let relay = self.relay(job, size, vec![origin]);
        match self.put(job, &relay).await {
            Ok(()) => {
                let from = Some(Arc::from(REGISTRY));
                Ok(Some(Outcome::Copied { from, bytes: size, replaced }))
            }
            Err(error) if error.kind() == Kind::Corrupt && error.code().is_none() => Ok(None),
            Err(error) => {
                let in_doubt = error.has_unknown_outcome();
                let failed = match error.kind() {
                    Kind::Source => CopyError::registry(AuthorityError::new(error)),
                    _ => CopyError::target(&self.target, error),
                };
                Err(CopyError { in_doubt, ..failed })
            }
        }
    }
}
