//! What is known of all zones at one moment. Readers share it; nobody changes it.

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
    /// By size class: the zones that are read, best first.
    orders: PerClass<Vec<Candidate>>,
    /// Whether the breaker of every zone that may be read is open: then the least recently failed is tried.
    pub all_open: bool,
    /// Events that were dropped because the queue was full.
    pub lost_events: u64,
    /// For how long this process was due to run and did not, since the start: it counts against no zone.
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
    /// Its name.
    pub name: Arc<str>,
    /// The state of its breaker.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Why, in words; `None` if the breaker is closed.
    pub reason: Option<Arc<str>>,
    /// Whether it failed lately, although its breaker is closed.
    pub suspect: bool,
    /// Until when it gets fewer requests, because it asked for that.
    pub throttled_until: Option<Instant>,
    /// How an operator wants it to be read.
    pub policy: Policy,
    /// Why it cannot be used at all.
    pub unusable: Option<Arc<str>>,
    /// By size class: its place in the order; `None` if it is not read.
    pub places: PerClass<Option<Place>>,
    /// By size class: how long its headers take.
    pub headers: PerClass<Headers>,
    /// Whether its latest probe or reads took another time than usual, so that it is probed sooner.
    pub(crate) unsettled: bool,
    /// How long its probes take, without outliers.
    pub probe: Option<Duration>,
    /// Bytes a second of one body, without outliers.
    pub throughput: Option<u64>,
    /// What was counted since the start.
    pub counts: Counts,
    /// Its last failure in words, and when that was.
    pub last_error: Option<(Arc<str>, Instant)>,
    /// Small blobs that it lately gave: what probes read.
    pub(crate) recent_blobs: RecentBlobs,
    /// Whether its latest probes were not answered.
    pub(crate) silent: bool,
}

impl ZoneView {
    /// Whether it is read before a zone whose breaker is open.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.unusable.is_none() && self.policy.is_read() && !matches!(self.state, State::Open { .. })
    }

    /// Whether its store gives no answers, neither to reads nor to probes, so that what is sent there is lost.
    /// One that denies the gateway, gave it wrong bytes or fails some reads may still take what is written.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let gone = matches!(self.state.fault(), Some(Fault::Unavailable | Fault::Timeout));
        gone && self.silent && matches!(self.state, State::Open { .. })
    }

    /// Whether a registry whose own store it is can take pushes.
    #[must_use]
    pub fn takes_pushes(&self) -> bool {
        self.unusable.is_none() && !self.policy.drain && !matches!(self.state, State::Open { .. })
    }
}

/// How long the headers of a zone take for one size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Half of them come within this; `None` if there are too few samples. The same holds for `p95`.
    pub p50: Option<Duration>,
    /// 95 % come within this.
    pub p95: Option<Duration>,
    /// When a hedge starts.
    pub hedge_after: Duration,
    /// When a replacement starts.
    pub overdue_after: Duration,
}

/// What was counted of a zone since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads that it gave the first byte of.
    pub reads: u64,
    /// Bytes that it gave.
    pub bytes: u64,
    /// Hedges that were started against it.
    pub hedged: u64,
    /// Hedges to it that answered before the first request.
    pub hedges_won: u64,
    /// Reads that were given up because its headers were overdue.
    pub overdue: u64,
    /// Reads and probes that failed.
    pub failures: u64,
    /// Reads and probes that were late or failed for a cause outside the zone.
    pub excused: u64,
    /// Bodies that it began and that were resumed in another zone.
    pub resumed_elsewhere: u64,
    /// Times that it gave wrong bytes.
    pub wrong_bytes: u64,
    /// Probes.
    pub probes: u64,
    /// Times that its breaker opened.
    pub opened: u64,
}
