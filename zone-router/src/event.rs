//! What reads and probes see of zones.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Error, Kind};

use crate::{Blob, SizeClass, ZoneId};

/// Something that was seen of one zone.
#[derive(Debug)]
pub(crate) struct ZoneEvent {
    pub(crate) zone: ZoneId,
    pub(crate) what: What,
}

/// What was seen, by the signal that shows it. Each kind of signal has a reducer of its own in the zone table.
#[derive(Debug)]
pub(crate) enum What {
    /// Of the headers of reads.
    Headers(HeadersEvent),
    /// Of bodies.
    Body(BodyEvent),
    /// Of probes.
    Probe(ProbeEvent),
    /// It failed or was late, and the cause is not the zone: this process lacked time, descriptors or ports, or the zone
    /// gave something else meanwhile.
    Excused,
}

/// What the headers of a read show.
#[derive(Debug)]
pub(crate) enum HeadersEvent {
    /// It answered a read.
    Answered { digest: Digest, class: SizeClass, after: Duration, absent: bool },
    /// Another zone answered first, so its own answer was not waited for.
    LostRace { digest: Digest, class: SizeClass, after: Duration },
    /// Its headers were overdue.
    Overdue { digest: Digest, class: SizeClass, after: Duration },
    /// A hedge was started against it.
    Hedged,
    /// It was asked as a hedge, and it answered first.
    HedgeWon,
    /// It failed before a first byte.
    Failed { digest: Digest, trouble: Trouble },
}

/// What a body shows.
#[derive(Debug)]
pub(crate) enum BodyEvent {
    /// It gives the first byte of a read.
    Opened,
    /// It gave `bytes`, for which it was waited for `waited` in all.
    Throughput { bytes: u64, waited: Duration },
    /// Its body was abandoned; the rest comes from elsewhere, if from anywhere.
    Abandoned,
    /// It failed in mid-body.
    Broke { digest: Digest, trouble: Trouble },
    /// The digest of a blob was right, of which it gave all bytes or the last ones.
    Proven { blob: Arc<Blob>, size: u64 },
    /// It alone gave all bytes of a blob, and the digest was wrong.
    WrongBytes,
}

/// What a probe shows.
#[derive(Debug)]
pub(crate) enum ProbeEvent {
    /// A probe was answered; `late` if it was overdue by then.
    Answered { after: Duration, late: bool },
    /// A whole blob was given to a probe, and it was right.
    ProvenWhole,
    /// A probe's answer is overdue.
    Overdue,
    /// A probe failed; `late` if it was overdue by then.
    Failed { trouble: Trouble, late: bool },
}

impl From<HeadersEvent> for What {
    fn from(event: HeadersEvent) -> Self {
        Self::Headers(event)
    }
}

impl From<BodyEvent> for What {
    fn from(event: BodyEvent) -> Self {
        Self::Body(event)
    }
}

impl From<ProbeEvent> for What {
    fn from(event: ProbeEvent) -> Self {
        Self::Probe(event)
    }
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
