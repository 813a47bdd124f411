//! What the fan-out asks the registry and reports to it. Only the registry knows whether a blob is still
//! wanted.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backends::Source;
use zone_router::Zone;

use super::job::Job;

/// The registry as the fan-out uses it. Implementations bound the time of every call.
#[async_trait]
pub trait Authority: fmt::Debug + Send + Sync {
    /// Whether the registry still has the blob of a job. Asked if no zone has the blob.
    async fn wanted(&self, job: &Job) -> Wanted;

    /// Reads the blob from the registry, for a blob whose key does not follow from its digest. `None` if the
    /// registry does not return it.
    ///
    /// # Errors
    /// The registry could not be asked, or did not answer clearly. The job is then tried again.
    async fn fetch(&self, job: &Job) -> Result<Option<Source>, AuthorityError>;

    /// Whether an object that existed before this job must be read and hashed before [`Authority::placed`] is called.
    /// This is so if that call records the object in this zone for the first time, because others then rely on it.
    ///
    /// # Errors
    /// The question could not be answered. The job is then tried again.
    async fn must_prove(&self, job: &Job, target: &Zone) -> Result<bool, AuthorityError>;

    /// Tells the registry that the target has the blob. The object's bytes were verified if this job wrote
    /// it, or if [`Authority::must_prove`] demanded it.
    ///
    /// # Errors
    /// It could not be recorded. The job is then tried again.
    async fn placed(&self, job: &Job, target: &Zone) -> Result<Placed, AuthorityError>;
}

/// Why the registry could not be asked or told. A zone is never at fault, and a retry may always help.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct AuthorityError(Arc<dyn Error + Send + Sync>);

impl AuthorityError {
    /// Wraps the error of the implementation. Its text must not contain a secret.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }
}

/// Whether the registry still has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The registry has the blob.
    Yes,
    /// The registry has the blob in none of the repositories that the job names.
    No,
    /// The registry could not be asked, or did not answer clearly. The text says why.
    Unknown(String),
}

/// How the registry reacted to a reported copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It records the copy, or does not need to.
    Kept,
    /// It deleted the blob meanwhile. The copy stays, because deleting it is never safe: an upload may start
    /// to use it at any moment.
    Withdrawn,
}
