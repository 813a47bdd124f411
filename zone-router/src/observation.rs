//! What reads and probes see of zones.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Error, Kind};

use crate::{Blob, SizeClass, ZoneId};

/// One thing seen of one zone.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) zone: ZoneId,
    pub(crate) what: Seen,
}

/// What was seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It answered a read.
    Answered { digest: Digest, class: SizeClass, after: Duration, absent: bool },
    /// Another zone answered first, so its own answer was not waited for.
    Outrun { digest: Digest, class: SizeClass, after: Duration },
    /// Its headers were overdue.
    Overdue { digest: Digest, class: SizeClass, after: Duration },
    /// A hedge was started against it.
    Hedged,
    /// It was asked as a hedge, and it answered first.
    HedgeWon,
    /// It gives the first byte of a read.
    Opened,
    /// It gave `bytes`, for which it was waited for `waited` in all.
    Gave { bytes: u64, waited: Duration },
    /// Its body was abandoned; the rest comes from elsewhere, if from anywhere.
    LeftBehind,
    /// It failed before a first byte.
    Failed { digest: Digest, trouble: Trouble },
    /// It failed in mid-body.
    Broke { digest: Digest, trouble: Trouble },
    /// The digest of a blob was right, of which it gave all bytes or the last ones.
    Proven { blob: Arc<Blob>, size: u64 },
    /// It alone gave all bytes of a blob, and the digest was wrong.
    WrongBytes,
    /// A probe was answered; `late` if it was overdue by then.
    Probed { after: Duration, late: bool },
    /// A whole blob was given to a probe, and it was right.
    ProbedWhole,
    /// It failed or was late, and the cause is not the zone: this process lacked time, descriptors or ports, or the zone
    /// gave something else meanwhile.
    Excused,
    /// A probe's answer is overdue.
    ProbeOverdue,
    /// A probe failed; `late` if it was overdue by then.
    ProbeFailed { trouble: Trouble, late: bool },
}

/// An error, as far as it says something of a zone.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) text: Arc<str>,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.to_string().into() }
    }
}
