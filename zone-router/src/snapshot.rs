//! What is known about all zones at one moment. Readers share the snapshot, and it never changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Fault, State};
use crate::rank::{Candidate, Place, Standing, order, rank};
use crate::recent_blobs::RecentBlobs;
use crate::{PerClass, PerZone, Policy, SizeClass, ZoneId};

/// All zones at one moment, in their configured order, home first.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The zones.
    pub zones: PerZone<ZoneView>,
    /// For each size class: the zones that are read, best first.
    orders: PerClass<Vec<Candidate>>,
    /// Whether the breakers of all zones that may be read are open. Then the zone that failed least recently is tried.
    pub all_open: bool,
    /// Events that were dropped because the queue was full.
    pub lost_events: u64,
    /// The time since the start for which this process was due to run and did not run. It does not count against any
    /// zone.
    pub lost_time: Duration,
}

impl Snapshot {
    pub(crate) fn new(zones: PerZone<ZoneView>, all_open: bool, lost_events: u64) -> Self {
        let places = |class: SizeClass| zones.with_ids().map(move |(id, zone)| (id, zone.places[class]));
        let lost_time = Duration::ZERO;
        Self {
            orders: PerClass::from_fn(|class| order(places(class))),
            zones,
            all_open,
            lost_events,
            lost_time,
        }
    }

    /// The zones to try for a blob of this class, best first.
    #[must_use]
    pub fn rank(&self, class: SizeClass, standing: impl Fn(ZoneId) -> Standing) -> Vec<Candidate> {
        rank(&self.orders[class], standing)
    }
}

/// One zone at one moment.
#[derive(Debug, Clone)]
pub struct ZoneView {
    /// The name of the zone.
    pub name: Arc<str>,
    /// The state of the breaker.
    pub state: State,
    /// The time since which the breaker has been in this state.
    pub since: Instant,
    /// Why the breaker is not closed, in words. `None` if it is closed.
    pub reason: Option<Arc<str>>,
    /// Whether the zone failed recently although its breaker is closed.
    pub suspect: bool,
    /// The time until which the zone gets fewer requests, because it asked for that.
    pub throttled_until: Option<Instant>,
    /// How an operator wants the zone to be read.
    pub policy: Policy,
    /// Why the zone cannot be used at all.
    pub unusable: Option<Arc<str>>,
    /// For each size class: the place in the order. `None` if the zone is not read.
    pub places: PerClass<Option<Place>>,
    /// For each size class: how long the headers take.
    pub headers: PerClass<Headers>,
    /// Whether the latest probe or reads took an unusual time. The zone is then probed sooner.
    pub(crate) unsettled: bool,
    /// How long probes take, without outliers.
    pub probe: Option<Duration>,
    /// The throughput of one body in bytes per second, without outliers.
    pub throughput: Option<u64>,
    /// Counts since the start.
    pub counts: Counts,
    /// The last failure in words, and its time.
    pub last_error: Option<(Arc<str>, Instant)>,
    /// Small blobs that the zone recently gave. Probes read them.
    pub(crate) recent_blobs: RecentBlobs,
    /// Whether the latest probes were not answered.
    pub(crate) silent: bool,
}

impl ZoneView {
    /// Whether the zone is read before a zone whose breaker is open.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.unusable.is_none() && self.policy.is_read() && !matches!(self.state, State::Open { .. })
    }

    /// Whether the store answers neither reads nor probes, so that everything that is sent there is lost. A store that
    /// denies access to the gateway, gave wrong bytes or fails some reads may still take writes.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let gone = matches!(self.state.fault(), Some(Fault::Unavailable | Fault::Timeout));
        gone && self.silent && matches!(self.state, State::Open { .. })
    }

    /// Whether a registry whose own store is this zone can take pushes.
    #[must_use]
    pub fn takes_pushes(&self) -> bool {
        self.unusable.is_none() && !self.policy.drain && !matches!(self.state, State::Open { .. })
    }
}

/// How long the headers of a zone take for one size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Half of the headers arrive within this. `None` if there are too few samples. The same holds for `p95`.
    pub p50: Option<Duration>,
    /// 95 % of the headers arrive within this.
    pub p95: Option<Duration>,
    /// The time after which a hedge starts.
    pub hedge_after: Duration,
    /// The time after which a replacement starts.
    pub overdue_after: Duration,
}

/// Counts of a zone since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads for which the zone gave the first byte.
    pub reads: u64,
    /// Bytes that the zone gave.
    pub bytes: u64,
    /// Hedges that were started because this zone was late.
    pub hedged: u64,
    /// Hedges to this zone that answered before the first request.
    pub hedges_won: u64,
    /// Reads that were given up because the headers of this zone were overdue.
    pub overdue: u64,
    /// Reads and probes that failed.
    pub failures: u64,
    /// Reads and probes that were late or failed for a cause outside the zone.
    pub excused: u64,
    /// Bodies that began in this zone and were resumed in another one.
    pub resumed_elsewhere: u64,
    /// How often the zone gave wrong bytes.
    pub wrong_bytes: u64,
    /// Probes.
    pub probes: u64,
    /// How often the breaker opened.
    pub opened: u64,
}
