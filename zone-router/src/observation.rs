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
    /// Another was quicker, and it was not waited for any longer.
    Outrun { digest: Digest, class: SizeClass, after: Duration },
    /// Its headers were overdue.
    Overdue { digest: Digest, class: SizeClass, after: Duration },
    /// A hedge was started against it.
    Hedged,
    /// It was a hedge, and the quicker one.
    HedgeWon,
    /// It gives the first byte of a read.
    Opened,
    /// It gave so many bytes, and was waited for so long meanwhile.
    Gave { bytes: u64, waited: Duration },
    /// The body goes on elsewhere.
    LeftBehind,
    /// It failed before a first byte.
    Failed { digest: Digest, trouble: Trouble },
    /// It failed in mid-body.
    Broke { digest: Digest, trouble: Trouble },
    /// A blob of which it gave all, or the end, was right.
    Proven { blob: Arc<Blob>, size: u64 },
    /// It alone gave a blob, and the bytes were wrong.
    WrongBytes,
    /// A probe was answered; `late` if it was overdue by then.
    Probed { after: Duration, late: bool },
    /// A whole blob was given to a probe, and it was right.
    ProbedWhole,
    /// It failed or was late, and that was no fault of its own: time, descriptors or ports were short here,
    /// or it gave something else meanwhile.
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
