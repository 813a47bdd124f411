//! Events: what reads and probes observe at zones.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Error, Kind};

use crate::{Blob, SizeClass, ZoneId};

/// An event at one zone.
#[derive(Debug)]
pub(crate) struct ZoneEvent {
    pub(crate) zone: ZoneId,
    pub(crate) what: What,
}

/// The observation, by the kind of signal. In the zone table, each kind of signal has its own reducer.
#[derive(Debug)]
pub(crate) enum What {
    /// An observation at the headers of a read.
    Headers(HeadersEvent),
    /// An observation at a body.
    Body(BodyEvent),
    /// An observation by a probe.
    Probe(ProbeEvent),
    /// A request failed or was late, but the zone is not the cause: this process lacked time, descriptors or ports, or
    /// the zone gave other bytes meanwhile.
    Excused,
}

/// An observation at the headers of a read.
#[derive(Debug)]
pub(crate) enum HeadersEvent {
    /// The zone answered a read.
    Answered { digest: Digest, class: SizeClass, after: Duration, absent: bool },
    /// Another zone answered first, so this zone's answer was not awaited.
    LostRace { digest: Digest, class: SizeClass, after: Duration },
    /// The headers were overdue.
    Overdue { digest: Digest, class: SizeClass, after: Duration },
    /// A hedge was started against it.
    Hedged,
    /// The zone was asked as a hedge and answered first.
    HedgeWon,
    /// The zone failed before the first byte.
    Failed { digest: Digest, trouble: Trouble },
}

/// An observation at a body.
#[derive(Debug)]
pub(crate) enum BodyEvent {
    /// The zone gives the first byte of a read.
    Opened,
    /// The zone gave `bytes`. The read waited for them for `waited` in all.
    Throughput { bytes: u64, waited: Duration },
    /// The body was abandoned. If the rest is needed, it comes from elsewhere.
    Abandoned,
    /// The zone failed in the middle of the body.
    Broke { digest: Digest, trouble: Trouble },
    /// The digest of a blob was right, and the zone gave all its bytes or the last ones.
    Proven { blob: Arc<Blob>, size: u64 },
    /// The zone alone gave all bytes of a blob, and the digest was wrong.
    WrongBytes,
}

/// An observation by a probe.
#[derive(Debug)]
pub(crate) enum ProbeEvent {
    /// The zone answered a probe. `late` if the answer was overdue by then.
    Answered { after: Duration, late: bool },
    /// The zone gave a whole blob to a probe, and its digest was right.
    ProvenWhole,
    /// The answer to a probe is overdue.
    Overdue,
    /// A probe failed. `late` if its answer was overdue by then.
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

/// An error, as far as it says something about a zone.
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
