//! One copy of one blob into one zone.

mod attempt;
mod copier;
mod missing;
mod relay;
mod server_side;
mod verified_objects;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Kind};
use zone_router::Zone;

use super::authority::AuthorityError;
use super::job::FoundSize;
use super::journal::JournalError;

pub(super) use copier::Copier;

/// How a try of a job ended.
#[derive(Debug)]
pub(super) enum JobEnd {
    /// It succeeded.
    Done(Outcome),
    /// The job is parked until it is added again, because nobody can do it. The text says why.
    Parked(String),
    /// The job is tried again.
    Failed(CopyError),
    /// The job is put back. The blob, or the object at the target that must be read, is larger than the job stated, and
    /// there is no capacity for it now. The value is what the try found out about the size.
    Deferred(FoundSize),
}

/// How a job ended successfully.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target had the blob already.
    AlreadyThere,
    /// The blob was written and verified.
    Copied {
        /// The source that gave most of the bytes. `None` for the empty blob.
        from: Option<Arc<str>>,
        /// Its size in bytes.
        bytes: u64,
        /// Whether it replaced a wrong object.
        replaced: bool,
    },
    /// The registry no longer has the blob.
    Withdrawn,
}

/// Which side caused a copy to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The target zone did not answer, or refused the blob.
    Target,
    /// No zone that has the blob, or may have it, could return it.
    Sources,
    /// Every zone answered, and none has the blob.
    Nowhere,
    /// The registry could not be asked, or could not be told.
    Registry,
    /// The journal could not record that the copy begins.
    Journal,
}

/// The failure of one zone.
#[derive(Debug)]
pub struct Failure {
    /// The zone.
    pub zone: Arc<str>,
    /// Its error.
    pub error: Error,
}

impl Failure {
    /// Whether the failure counts against the zone's health.
    #[must_use]
    pub fn counts(&self) -> bool {
        // If the source of the target's `put` failed, the error has the kind `Source`.
        self.error.counts_against_store() || self.error.kind() == Kind::Source
    }
}

/// A copy that failed.
#[derive(Debug)]
pub struct CopyError {
    /// Which side failed.
    pub fault: Fault,
    /// The failures of zones, in order.
    pub failures: Vec<Failure>,
    /// The error of the registry, if it failed.
    pub registry: Option<AuthorityError>,
    /// The error of the journal, if it failed.
    pub journal: Option<JournalError>,
    /// Whether a failed write may have made an object appear at the target, or still may. Such an object
    /// counts only after it was read.
    pub in_doubt: bool,
    /// Set if there was no capacity for a blob that is larger than its job stated: see [`JobEnd::Deferred`].
    pub(super) deferred: Option<FoundSize>,
}

impl CopyError {
    fn of(fault: Fault, failures: Vec<Failure>) -> Self {
        Self { fault, failures, registry: None, journal: None, in_doubt: false, deferred: None }
    }

    fn target(target: &Zone, error: Error) -> Self {
        let failures = vec![Failure { zone: Arc::clone(&target.name), error }];
        Self::of(Fault::Target, failures)
    }

    fn sources(failures: Vec<Failure>) -> Self {
        let fault = if failures.is_empty() { Fault::Nowhere } else { Fault::Sources };
        Self::of(fault, failures)
    }

    fn registry(error: AuthorityError) -> Self {
        Self { registry: Some(error), ..Self::of(Fault::Registry, Vec::new()) }
    }

    fn journal(error: JournalError) -> Self {
        Self { journal: Some(error), ..Self::of(Fault::Journal, Vec::new()) }
    }

    /// The error if there is no capacity now.
    fn deferred(size: FoundSize) -> Self {
        Self { deferred: Some(size), ..Self::sources(Vec::new()) }
    }

    /// Whether no zone has any object of the blob. If `false`, the target has an object that reads wrong,
    /// which may be temporary.
    pub(super) fn is_absent_everywhere(&self) -> bool {
        self.fault == Fault::Nowhere && self.failures.is_empty()
    }

    /// Whether the next job would fail in the same way, because the target denies access or does not serve.
    #[must_use]
    pub fn is_target_down(&self) -> bool {
        self.fault == Fault::Target
            && self.failures.iter().any(|failure| {
                let error = &failure.error;
                let kinds = matches!(
                    error.kind(),
                    Kind::Unavailable | Kind::Timeout | Kind::Throttled { .. } | Kind::Denied
                );
                kinds && !error.concerns_one_object()
            })
    }

    /// The longest wait that a store asked for.
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
            Fault::Registry => "registry",
            Fault::Journal => "journal",
        })?;
        if let Some(error) = &self.journal {
            write!(f, ": {error}")?;
        }
        if let Some(error) = &self.registry {
            write!(f, ": {error}")?;
        }
        for Failure { zone, error } in &self.failures {
            write!(f, "; {zone}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CopyError {}
