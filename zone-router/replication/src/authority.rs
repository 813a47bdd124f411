//! What the fan-out asks the registry, which alone knows whether a blob is still wanted.

use std::fmt;

use async_trait::async_trait;
use backends::Source;
use zone_router::Zone;

use super::job::Job;

/// The registry behind the zones, as the fan-out asks it. Every call has a bound of its own in time.
#[async_trait]
pub trait Authority: fmt::Debug + Send + Sync {
    /// Whether the registry still has the blob of a job that no zone has.
    async fn wanted(&self, job: &Job) -> Wanted;

    /// The blob as the registry itself gives it, for what lies at no key that follows from its
    /// digest; `None` where it gives none.
    ///
    /// # Errors
    /// A sentence on why it could not be asked, or could not say.
    async fn fetch(&self, job: &Job) -> Result<Option<Source>, String>;

    /// Whether an object that was there already is to be read and hashed before
    /// [`Authority::placed`] hears of it: that would keep what others believe, and has not kept it
    /// yet. (In the zone that took the push, the registry itself has.)
    ///
    /// # Errors
    /// A sentence on why that is not known; the job is then tried again.
    async fn must_prove(&self, job: &Job, target: &Zone) -> Result<bool, String>;

    /// Told that the target has the blob, proven if [`Authority::must_prove`] or this job wrote it.
    ///
    /// # Errors
    /// A sentence on why it could not be kept; the job is then tried again.
    async fn placed(&self, job: &Job, target: &Zone) -> Result<Placed, String>;
}

/// Whether the registry still has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It has.
    Yes,
    /// It has not, in none of the repositories that the job knows.
    No,
    /// It cannot be asked, or did not say, and why.
    Unknown(String),
}

/// What became of a copy at the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// The registry knows of it, or need not.
    Kept,
    /// The registry has dropped the blob meanwhile. The copy stays: to delete it is never safe, as an upload may
    /// take it for its own at any moment.
    Withdrawn,
}
