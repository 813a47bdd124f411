//! Keeps the snapshot: records the events of reads and probes, and logs changes.
//!
//! Readers load an `Arc`, and send their events into a bounded channel. They take no lock.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use backends::{Error, Kind};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::breaker::State;
use crate::event::{HeadersEvent, ProbeEvent, Trouble, What, ZoneEvent};
use crate::lost_time::{LostTime, Stopwatch};
use crate::preferred::TICK;
use crate::signs::LastSign;
use crate::snapshot::Snapshot;
use crate::table::{Change, ZoneTable};
use crate::{PerZone, Policy, RoutedZone, Settings, ZoneId};

/// The most events that wait to be recorded. Further ones are dropped and counted.
const BACKLOG: usize = 4096;

/// The current snapshot, and the channel for events.
#[derive(Debug)]
pub(crate) struct Watch {
    view: ArcSwap<Snapshot>,
    events: mpsc::Sender<ZoneEvent>,
    lost: Arc<AtomicU64>,
    policies: watch::Sender<PerZone<Policy>>,
    signals: PerZone<Arc<Signals>>,
    /// The time that this process lost. It does not count against a zone.
    pub(crate) lost_time: Arc<LostTime>,
    /// Locked by the task, and by whoever makes a successor.
    table: Mutex<ZoneTable>,
    keeper: Mutex<Option<Keeper>>,
    successor: OnceLock<Successor>,
}

/// The watch of a later configuration. Whatever reads that began before still observe is recorded there.
#[derive(Debug)]
struct Successor {
    watch: Arc<Watch>,
    /// The ids that the zones have there. `None` for a zone that is gone, or has another store.
    ids: PerZone<Option<ZoneId>>,
}

/// State that the reads and the probe of one zone share directly, without the task between them.
#[derive(Debug)]
struct Signals {
    /// Wakes the probe, because it may be due at another time.
    probe_due: Notify,
    last_sign: LastSign,
}

/// The state that only the task uses.
#[derive(Debug)]
struct Keeper {
    inbox: mpsc::Receiver<ZoneEvent>,
    policies: watch::Receiver<PerZone<Policy>>,
}

impl Watch {
    pub(crate) fn new(zones: &[RoutedZone], settings: Settings) -> Self {
        let table = ZoneTable::new(zones, settings, Instant::now());
        let signals = zones.iter().map(|_| Arc::new(Signals::new())).collect();
        Self::with(zones, table, signals, Arc::default(), Arc::new(LostTime::new()))
    }

    fn with(
        zones: &[RoutedZone],
        mut table: ZoneTable,
        signals: PerZone<Arc<Signals>>,
        lost: Arc<AtomicU64>,
        lost_time: Arc<LostTime>,
    ) -> Self {
        let mut snapshot = table.snapshot(Instant::now(), lost.load(Ordering::Relaxed));
        snapshot.lost_time = lost_time.lost();
        let (events, inbox) = mpsc::channel(BACKLOG);
        let (policies, receiver) = watch::channel(zones.iter().map(|zone| zone.policy).collect());
        Self {
            view: ArcSwap::from_pointee(snapshot),
            events,
            lost,
            policies,
            signals,
            lost_time,
            table: Mutex::new(table),
            keeper: Mutex::new(Some(Keeper { inbox, policies: receiver })),
            successor: OnceLock::new(),
        }
    }

    /// The watch for a later configuration. `kept` has the present id of each zone whose store is the same: what is
    /// known about it stays. From now on, events that are recorded here are recorded there.
    pub(crate) fn successor(
        &self,
        zones: &[RoutedZone],
        kept: &PerZone<Option<ZoneId>>,
        settings: Settings,
    ) -> Arc<Self> {
        let signals = |before: &Option<ZoneId>| {
            before.map_or_else(|| Arc::new(Signals::new()), |before| Arc::clone(&self.signals[before]))
        };
        let signals = kept.iter().map(signals).collect();
        let table = self.table.lock().successor(zones, kept, settings, Instant::now());
        let (lost, lost_time) = (Arc::clone(&self.lost), Arc::clone(&self.lost_time));
        let watch = Arc::new(Self::with(zones, table, signals, lost, lost_time));
        let ids = self.signals.ids().map(|id| kept.find_id(|before| *before == Some(id))).collect();
        // A router has one successor, because whoever makes it replaces the router by it.
        let _ = self.successor.set(Successor { watch: Arc::clone(&watch), ids });
        watch
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.view.load()
    }

    /// Waits until the next probe of a zone may be due at another time.
    pub(crate) async fn probe_due(&self, zone: ZoneId) {
        self.signals[zone].probe_due.notified().await;
    }

    /// Records that a zone gave bytes just now.
    pub(crate) fn gave(&self, zone: ZoneId) {
        self.signals[zone].last_sign.note();
    }

    /// Whether a zone gave bytes after `then`.
    pub(crate) fn gave_since(&self, zone: ZoneId, then: Instant) -> bool {
        self.signals[zone].last_sign.is_after(then)
    }

    /// Records an event. Never waits.
    pub(crate) fn saw(&self, zone: ZoneId, what: impl Into<What>) {
        let what = what.into();
        if let Some(Successor { watch, ids }) = self.successor.get() {
            if let Some(zone) = ids[zone] {
                watch.saw(zone, what);
            }
            return;
        }
        if matches!(what, What::Headers(HeadersEvent::Answered { .. })) {
            self.gave(zone);
        }
        if self.events.try_send(ZoneEvent { zone, what }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that a zone failed. If this process is the cause, because of the time that it lost since `watch` was
    /// started, the zone is excused.
    pub(crate) fn saw_failure<E: Into<What>>(
        &self,
        zone: ZoneId,
        error: &Error,
        watch: &Stopwatch,
        seen: impl FnOnce(Trouble) -> E,
    ) {
        let excused = match error.kind() {
            Kind::Exhausted => true,
            Kind::Timeout => watch.excuses(&self.lost_time),
            _ => false,
        };
        self.saw(zone, if excused { What::Excused } else { seen(Trouble::from(error)).into() });
    }

    pub(crate) fn policies(&self) -> PerZone<Policy> {
        self.policies.borrow().clone()
    }

    pub(crate) fn set_policies(&self, change: impl FnOnce(&mut PerZone<Policy>)) {
        self.policies.send_modify(change);
    }

    /// Records events until `shutdown`. Only the first call has an effect.
    pub(crate) async fn keep(&self, shutdown: CancellationToken) {
        let keeper = self.keeper.lock().take();
        let Some(Keeper { mut inbox, mut policies }) = keeper else { return };
        // A change of state is published at once.
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Ok(()) = policies.changed() => {
                    let policies = policies.borrow_and_update().clone();
                    let mut table = self.table.lock();
                    table.set_policies(&policies);
                    self.publish(&mut table);
                }
                // This comes before the events, because there may always be another event.
                _ = tick.tick() => self.publish(&mut self.table.lock()),
                Some(event) = inbox.recv() => match self.successor.get() {
                    // The table was copied already.
                    Some(_) => self.saw(event.zone, event.what),
                    None => self.take(&mut self.table.lock(), event),
                },
            }
        }
        // A successor records what was still to be recorded.
        while let Ok(ZoneEvent { zone, what }) = inbox.try_recv() {
            if self.successor.get().is_none() {
                return;
            }
            self.saw(zone, what);
        }
    }

    fn take(&self, table: &mut ZoneTable, event: ZoneEvent) {
        let zone = event.zone;
        // The outcome of a probe changes when the next one is due.
        let probed = matches!(
            event.what,
            What::Probe(ProbeEvent::Answered { .. } | ProbeEvent::ProvenWhole | ProbeEvent::Failed { .. })
        );
        let now = Instant::now();
        let doubt = table.is_doubtful(zone, now);
        let change = table.fold(event, now, fastrand::f64());
        let doubt = table.is_doubtful(zone, now) && !doubt;
        if change.is_none() && !probed && !doubt {
            return;
        }
        self.publish(table);
        if let Some(change) = &change {
            tell(change);
        }
        if change.is_some() || doubt {
            self.signals[zone].probe_due.notify_one();
        }
    }

    fn publish(&self, table: &mut ZoneTable) {
        let before = self.view.load().all_open;
        let mut snapshot = table.snapshot(Instant::now(), self.lost.load(Ordering::Relaxed));
        snapshot.lost_time = self.lost_time.lost();
        match (before, snapshot.all_open) {
            (false, true) => error!("EVERY ZONE IS OUT OF USE: the least recently failed is tried"),
            (true, false) => info!("a zone is in use again"),
            _ => {}
        }
        self.view.store(Arc::new(snapshot));
    }
}

impl Signals {
    fn new() -> Self {
        Self { probe_due: Notify::new(), last_sign: LastSign::new() }
    }
}

/// Logs a change of state.
fn tell(change: &Change) {
    let zone = &*change.zone;
    let reason = change.reason.as_deref().unwrap_or_default();
    let after = seconds(change.after);
    match (change.from, change.to) {
        (State::Open { .. }, State::Open { .. }) => {
            warn!(zone, reason, "zone is still out of use, and for another reason now");
        }
        (State::HalfOpen { .. }, State::Open { .. }) => {
            warn!(zone, reason, "zone failed its probation and is out of use again");
        }
        (_, State::Open { until, .. }) => {
            let retry = seconds(until.saturating_duration_since(Instant::now()));
            if change.is_last {
                warn!(zone, reason, retry, "zone is out of use, as are all others: it is still read");
                return;
            }
            warn!(zone, reason, retry, "zone is out of use: reads go to others");
        }
        (_, State::HalfOpen { .. }) => info!(zone, after, "zone answers again and is on probation"),
        (_, State::Closed) => info!(zone, after, "zone is in use again"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
