//! Opens a blob in the best zone that has it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use backends::{Digest, Error, Hasher, Kind, Meta, Object, Proof};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::breaker::State;
use crate::event::{BodyEvent, HeadersEvent};
use crate::hedge::Budget;
use crate::memory::Memory;
use crate::open::{Entrant, Race, Wanted};
use crate::probe::{self, Allowance};
use crate::quarantine::Quarantine;
use crate::rank::Reason;
use crate::read::Read;
use crate::snapshot::Snapshot;
use crate::tries::Tries;
use crate::turn::{Turn, TurnKind, TurnObserver};
use crate::unsized_body::unsized_body;
use crate::watch::Watch;
use crate::{Blob, PerZone, Policy, RoutedZone, Settings, SizeClass, Verified, Zone, ZoneId};

/// Reads each blob from the best zone that has it.
#[derive(Debug)]
pub struct Router {
    zones: PerZone<Member>,
    pub(crate) settings: Settings,
    pub(crate) quarantine: Quarantine,
    /// Routers that follow one another share this and the next two.
    ///
    /// Digests of blobs for which somebody stated a size that the bytes did not fit, while the zone itself stated none.
    /// The next time, the zones are asked for the size.
    pub(crate) doubted_sizes: Arc<Memory<Digest, ()>>,
    pub(crate) hedges: Arc<Budget>,
    pub(crate) replacements: Arc<Semaphore>,
    pub(crate) watch: Arc<Watch>,
    turns: OnceLock<Arc<dyn TurnObserver>>,
}

/// One zone of a router.
#[derive(Debug)]
struct Member {
    zone: Zone,
    /// If the breaker is half-open, only the read that holds this permit may try the zone.
    trial: Arc<Semaphore>,
    /// Limits its probes.
    allowance: Arc<Mutex<Allowance>>,
}

impl Member {
    fn new(zone: Zone, settings: &Settings) -> Self {
        let allowance = Allowance::new(settings.probes_per_hour, Instant::now());
        Self { zone, trial: Arc::new(Semaphore::new(1)), allowance: Arc::new(Mutex::new(allowance)) }
    }
}

/// The permission to try a zone whose breaker is half-open.
pub(crate) type Trial = OwnedSemaphorePermit;

/// Checks whether an object of a zone can be the blob.
pub(crate) type Judge<'a> = &'a (dyn Fn(ZoneId, &Object) -> Result<(), Error> + Send + Sync);

/// A blob that is being read.
pub struct Reading {
    /// The size in bytes. `None` if nobody knows it.
    pub size: Option<u64>,
    /// The zone that gives the first bytes.
    pub zone: Arc<str>,
    /// Whether the home zone was asked and does not have the blob. A copy into it is then due.
    pub home_lacks_it: bool,
    /// The bytes. If a zone breaks off, stalls or is slow, another zone continues at the next byte.
    pub body: Verified,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("size", &self.size).field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// No zone gave a blob.
#[derive(Debug)]
pub struct NotOpened {
    /// The answer of each zone that was asked.
    pub answers: Vec<(Arc<str>, Answer)>,
}

/// The answer of a zone that did not give a blob.
#[derive(Debug)]
pub enum Answer {
    /// The zone does not have the blob.
    Absent,
    /// The zone failed.
    Failed(Error),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.answers.is_empty() {
            return f.write_str("no zone is left to ask: none may be read, or each has given wrong bytes for this blob of late");
        }
        for (index, (zone, answer)) in self.answers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            match answer {
                Answer::Absent => write!(f, "{comma}{zone}: absent")?,
                Answer::Failed(error) => write!(f, "{comma}{zone}: {error}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for NotOpened {}

impl NotOpened {
    /// Whether a zone had an object of a size other than the expected one.
    #[must_use]
    pub fn is_about_size(&self) -> bool {
        let corrupt =
            |answer: &Answer| matches!(answer, Answer::Failed(error) if error.kind() == Kind::Corrupt);
        self.answers.iter().any(|(_, answer)| corrupt(answer))
    }
}

impl Router {
    /// A router over these zones, home first, with the default policy and settings.
    #[must_use]
    pub fn new(zones: Vec<Zone>) -> Self {
        Self::with(zones.into_iter().map(RoutedZone::from).collect(), Settings::default())
    }

    /// A router over these zones, home first, with the policies of an operator.
    #[must_use]
    pub fn with(zones: Vec<RoutedZone>, settings: Settings) -> Self {
        Self {
            watch: Arc::new(Watch::new(&zones, settings)),
            quarantine: Quarantine::new(zones.len()),
            zones: zones.into_iter().map(|routed| Member::new(routed.zone, &settings)).collect(),
            doubted_sizes: Arc::default(),
            hedges: Arc::new(Budget::new(settings.hedge_percent, settings.hedge_load)),
            replacements: Arc::new(Semaphore::new(settings.replacements)),
            turns: OnceLock::new(),
            settings,
        }
    }

    /// A router for a later configuration, which takes the place of this one. For each zone for which `keeps` says that
    /// its store is the same, what is known about it stays: health, latency, quarantine, and the budget of its probes.
    ///
    /// Reads that began in this router end in it, with its stores. What they observe counts in the new one. Start the
    /// new one, and cancel the token with which this one was started.
    #[must_use]
    pub fn successor(
        &self,
        zones: Vec<RoutedZone>,
        settings: Settings,
        keeps: impl Fn(&str) -> bool,
    ) -> Self {
        let before = |routed: &RoutedZone| {
            let name = &*routed.zone.name;
            self.find(name).filter(|_| keeps(name))
        };
        let kept: PerZone<Option<ZoneId>> = zones.iter().map(before).collect();
        let watch = self.watch.successor(&zones, &kept, settings);
        let member = |(routed, before): (RoutedZone, &Option<ZoneId>)| {
            let new = Member::new(routed.zone, &settings);
            let Some(before) = before.map(|before| &self.zones[before]) else { return new };
            before.allowance.lock().set_rate(settings.probes_per_hour, Instant::now());
            let (trial, allowance) = (Arc::clone(&before.trial), Arc::clone(&before.allowance));
            Member { trial, allowance, ..new }
        };
        let same_budget = settings.hedge_percent.to_bits() == self.settings.hedge_percent.to_bits();
        let hedges = match same_budget {
            true => Arc::clone(&self.hedges),
            false => Arc::new(Budget::new(settings.hedge_percent, settings.hedge_load)),
        };
        Self {
            watch,
            quarantine: self.quarantine.successor(&kept),
            zones: zones.into_iter().zip(&kept).map(member).collect(),
            doubted_sizes: Arc::clone(&self.doubted_sizes),
            hedges,
            replacements: Arc::clone(&self.replacements),
            turns: self.turns.clone(),
            settings,
        }
    }

    /// Watches and probes the zones until `shutdown`. Before this call, the zones are read in their configured order.
    /// Needs a Tokio runtime.
    pub fn start(self: &Arc<Self>, shutdown: &CancellationToken) {
        let (router, token) = (Arc::clone(self), shutdown.clone());
        tokio::spawn(async move { router.watch.keep(token).await });
        let (router, token) = (Arc::clone(self), shutdown.clone());
        tokio::spawn(async move { router.watch.lost_time.measure(token).await });
        let usable = self.zones.with_ids().filter(|(_, member)| member.zone.unusable.is_none());
        for (zone, _) in usable {
            tokio::spawn(probe::run(Arc::clone(self), zone, shutdown.clone()));
        }
    }

    /// All zones, home first.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Zone> {
        self.zones.iter().map(|member| &member.zone)
    }

    /// The home zone; `None` if there are no zones.
    #[must_use]
    pub fn home(&self) -> Option<&Zone> {
        self.zones().next()
    }

    /// The id of the zone with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ZoneId> {
        self.zones.find_id(|member| &*member.zone.name == name)
    }

    pub(crate) fn allowance(&self, zone: ZoneId) -> &Mutex<Allowance> {
        &self.zones[zone].allowance
    }

    pub(crate) fn zone(&self, zone: ZoneId) -> &Zone {
        &self.zones[zone].zone
    }

    /// What is known about the zones now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.watch.view())
    }

    /// Tells `observer` of the turns of all reads from now on. Only the first call has an effect.
    pub fn observe_turns(&self, observer: Arc<dyn TurnObserver>) {
        // A second observer is dropped.
        let _ = self.turns.set(observer);
    }

    /// Tells the observer, if there is one, that the read of a blob took a turn.
    pub(crate) fn turned(&self, digest: &Digest, kind: TurnKind, zone: ZoneId) {
        if let Some(observer) = self.turns.get() {
            observer.turned(digest, Turn { kind, zone: Arc::clone(&self.zone(zone).name) });
        }
    }

    /// The policy of each zone.
    #[must_use]
    pub fn policies(&self) -> PerZone<Policy> {
        self.watch.policies()
    }

    /// Changes the policies. New reads use them a moment later. Reads that are under way do not change.
    pub fn set_policies(&self, change: impl FnOnce(&mut PerZone<Policy>)) {
        self.watch.set_policies(change);
    }

    /// The metadata of a blob, from the first zone that has it; `None` if no zone answers that it has it. An object of
    /// a size that this digest cannot have, such as an empty one, does not count. If no other zone has the blob, the
    /// zones whose answers were overdue are asked again, up to the timeout of their driver.
    pub async fn head(&self, blob: &Blob) -> Option<Meta> {
        const CLASS: SizeClass = SizeClass::Small;
        let view = self.snapshot();
        let mut overdue = Vec::new();
        for entrant in self.entrants(&blob.digest, CLASS) {
            let zone = entrant.candidate.zone;
            let after = view.zones[zone].headers[CLASS].overdue_after;
            match self.watch.lost_time.within(after, self.head_in(zone, blob)).await {
                Some(Some(meta)) => return Some(meta),
                Some(None) => {}
                None => {
                    self.watch.saw(zone, HeadersEvent::Overdue { digest: blob.digest, class: CLASS, after });
                    overdue.push(zone);
                }
            }
        }
        for zone in overdue {
            if let Some(meta) = self.head_in(zone, blob).await {
                return Some(meta);
            }
        }
        None
    }

    async fn head_in(&self, id: ZoneId, blob: &Blob) -> Option<Meta> {
        let (zone, digest, watch) = (self.zone(id), blob.digest, self.watch.lost_time.start());
        let answer = zone.store.head(&blob.key).await;
        match &answer {
            Ok(found) => {
                let (class, after) = (SizeClass::Small, watch.elapsed(&self.watch.lost_time));
                self.watch.saw(id, HeadersEvent::Answered { digest, class, after, absent: found.is_none() });
            }
            Err(error) => {
                tracing::warn!(zone = %zone.name, %digest, %error, "zone failed to answer");
                let failed = |trouble| HeadersEvent::Failed { digest, trouble };
                self.watch.saw_failure(id, error, &watch, failed);
            }
        }
        answer.ok().flatten().filter(|meta| blob.digest.may_have(meta.size))
    }

    /// Opens a blob in the best zone that gives it. If the registry stated an `expected` size, in bytes, an object of
    /// another size does not count.
    ///
    /// # Errors
    /// No zone gave the blob. The error contains the answer of each zone.
    pub async fn open(self: &Arc<Self>, blob: &Blob, expected: Option<u64>) -> Result<Reading, NotOpened> {
        let class = SizeClass::of(expected);
        let entrants = self.entrants(&blob.digest, class);
        let judge = |zone: ZoneId, object: &Object| self.judge(zone, blob, expected, object);
        let wanted = Wanted { blob, range: None, class, judge: &judge };
        let mut tries = Tries::new(self.zones.len());
        let view = self.snapshot();
        let (won, answers) = Race::new(self, &view, wanted, entrants, &mut tries).run().await;
        let Some(won) = won else {
            let named = |(zone, answer): (ZoneId, Answer)| (Arc::clone(&self.zone(zone).name), answer);
            return Err(NotOpened { answers: answers.into_iter().map(named).collect() });
        };
        let home_lacks_it =
            answers.iter().any(|(zone, answer)| *zone == ZoneId::HOME && matches!(answer, Answer::Absent));
        self.watch.saw(won.zone, BodyEvent::Opened);
        let zone = Arc::clone(&self.zone(won.zone).name);
        let size = match won.object.size {
            Some(size) => Some(size),
            None => self.size_from_elsewhere(blob, expected).await,
        };
        let (router, digest, blob) = (Arc::clone(self), blob.digest, blob.clone());
        let body = match size {
            Some(size) => {
                let proof = Proof::new(blob.digest, size, Hasher::new());
                Read::opened(router, blob, proof, won, tries).into_stream()
            }
            None => unsized_body(router, blob, won),
        };
        Ok(Reading { size, zone, home_lacks_it, body: Verified::by_reader(body, digest, size) })
    }

    /// The size of a blob in bytes, if the zone does not state it at `GET`: the size that the caller expects, or else
    /// the size that a zone states at `HEAD`.
    async fn size_from_elsewhere(&self, blob: &Blob, expected: Option<u64>) -> Option<u64> {
        let expected = expected.filter(|size| blob.digest.may_have(*size));
        if expected.is_some() && self.doubted_sizes.get(&blob.digest).is_none() {
            return expected;
        }
        let head = self.watch.lost_time.within(self.settings.overdue_max, self.head(blob)).await;
        head.flatten().map(|meta| meta.size)
    }

    /// Continues to read a blob whose first bytes `seen` has hashed. If no zone can continue, the first item is an
    /// error.
    #[must_use]
    pub fn resume(self: &Arc<Self>, blob: &Blob, size: u64, seen: Hasher) -> Verified {
        let proof = Proof::new(blob.digest, size, seen);
        let rest = Read::resumed(Arc::clone(self), blob.clone(), proof).into_stream();
        Verified::by_reader(rest, blob.digest, Some(size))
    }

    /// The zones to ask, best first. If a zone's breaker is half-open, the zone comes first for one read at a time.
    pub(crate) fn entrants(&self, digest: &Digest, class: SizeClass) -> Vec<Entrant> {
        let candidates = self.watch.view().rank(class, |zone| self.quarantine.standing(digest, zone));
        let entrant = |candidate| Entrant { candidate, trial: None };
        let mut entrants: Vec<_> = candidates.into_iter().map(entrant).collect();
        let half_open = entrants.iter().position(|entrant| entrant.candidate.reason == Reason::HalfOpen);
        if let Some(index) = half_open
            && let Ok(trial) =
                Arc::clone(&self.zones[entrants[index].candidate.zone].trial).try_acquire_owned()
        {
            entrants[index].trial = Some(trial);
            entrants[..=index].rotate_right(1);
        }
        entrants
    }

    /// All zones in the order in which a copy asks them: the order of reads, and then the zones that reads leave out.
    #[must_use]
    pub fn sources(&self, digest: &Digest, class: SizeClass) -> Vec<ZoneId> {
        let ranked = self.watch.view().rank(class, |zone| self.quarantine.standing(digest, zone));
        let mut order: Vec<ZoneId> = ranked.into_iter().map(|candidate| candidate.zone).collect();
        let last: Vec<ZoneId> = self.zones.ids().filter(|zone| !order.contains(zone)).collect();
        order.extend(last);
        order
    }

    /// Whether the breaker of the zone with this name is open.
    #[must_use]
    pub fn is_open(&self, zone: &str) -> bool {
        let view = self.watch.view();
        view.zones.iter().any(|view| &*view.name == zone && matches!(view.state, State::Open { .. }))
    }

    fn judge(&self, zone: ZoneId, blob: &Blob, expected: Option<u64>, object: &Object) -> Result<(), Error> {
        // An object without a stated size may be the blob. The digest decides.
        let Some(size) = object.size else { return Ok(()) };
        if !blob.digest.may_have(size) {
            self.quarantine.add(&blob.digest, zone);
            return Err(Error::new(Kind::Corrupt, format!("get {}: {size} bytes", blob.key)));
        }
        // The expected size may be wrong, so other readers still use the zone.
        match expected {
            Some(expected) if size != expected => {
                Err(Error::new(Kind::Corrupt, format!("get {}: {size} bytes, not {expected}", blob.key)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a registry whose own store is the zone with this name can take pushes. The zone must be usable and not
    /// drained, and its breaker must not be open.
    #[must_use]
    pub fn takes_pushes(&self, zone: &str) -> bool {
        self.watch.view().zones.iter().any(|view| &*view.name == zone && view.takes_pushes())
    }
}
