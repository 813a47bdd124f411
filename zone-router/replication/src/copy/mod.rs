//! One copy of one blob into one zone.

mod attempt;
mod means;
mod missing;
mod proven;
mod relay;
mod within;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Kind};
use zone_router::Zone;

pub(super) use means::Means;
pub(super) use proven::Proven;
pub(super) use within::Within;

/// How a job ends.
#[derive(Debug)]
pub(super) enum End {
    /// Well.
    Done(Outcome),
    /// Nobody can do it, and why: until it is added again.
    Parked(String),
    /// Not yet.
    Failed(CopyError),
    /// Its blob is larger than it said, of so many bytes, and there is no room for it now: it gives its place to
    /// others. 0 where what lies at the target is to be read ([`Job::must_read`](super::Job::must_read)).
    Later(u64),
}

/// How a job ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target had it.
    AlreadyThere,
    /// It was written and verified.
    Copied {
        /// Where it was read, or the most of it; none for the zero-byte blob.
        from: Option<Arc<str>>,
        /// Its size.
        bytes: u64,
        /// Whether something else lay at its key.
        replaced: bool,
    },
    /// The registry has no such blob any more.
    Withdrawn,
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
    /// The registry could not be asked, or not be told.
    Registry,
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
    /// What the registry said, where it is its fault.
    pub registry: Option<String>,
    /// Whether the target may have got an object by a write that failed, or still may: then what lies there
    /// counts only after it was read.
    pub in_doubt: bool,
    /// There was no room for a blob larger than its job said: see [`End::Later`].
    pub(super) later: Option<u64>,
}

impl CopyError {
    fn target(target: &Zone, error: Error) -> Self {
        let in_doubt = error.has_unknown_outcome();
        let failures = vec![Failure { zone: Arc::clone(&target.name), error }];
        Self { fault: Fault::Target, failures, registry: None, in_doubt, later: None }
    }

    fn sources(failures: Vec<Failure>) -> Self {
        let fault = if failures.is_empty() { Fault::Nowhere } else { Fault::Sources };
        Self { fault, failures, registry: None, in_doubt: false, later: None }
    }

    fn registry(why: String) -> Self {
        let failures = Vec::new();
        Self { fault: Fault::Registry, failures, registry: Some(why), in_doubt: false, later: None }
    }

    /// There is no room now for so many bytes.
    fn later(size: u64) -> Self {
        Self { later: Some(size), ..Self::sources(Vec::new()) }
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
            Fault::Registry => "registry",
        })?;
        if let Some(why) = &self.registry {
            write!(f, ": {why}")?;
        }
        for Failure { zone, error } in &self.failures {
            write!(f, "; {zone}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CopyError {}
