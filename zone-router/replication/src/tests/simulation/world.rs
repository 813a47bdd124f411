//! A world: scripted zones, pushes and sweeps, crashes, a clock that jumps; the real lanes over the real
//! statements of the journal, on a paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use backends::{Key, Store};
use bytes::Bytes;
use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Zone};

use super::super::blob;
use super::store::{Manner, Script, Scripted};
use crate::journal::Simulated;
use crate::{FanOut, Journal, Setup};

/// Zones; the first takes the pushes.
const ZONES: [&str; 3] = ["z0", "z1", "z2"];

/// Trouble ends after this; then every zone is well.
pub(super) const TROUBLE: Duration = Duration::from_secs(1800);

/// After that, every blob is everywhere within this: twice the longest wait of a job, and a pause.
pub(super) const HEALED: Duration = Duration::from_secs(2 * 600 + 60);

/// Blobs that there are at most.
const BLOBS: usize = 40;

/// A world before it begins.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    /// What each zone does, and when.
    pub(super) scripts: Vec<Script>,
    /// When a manifest is pushed, and with which blobs.
    pub(super) pushes: Vec<(Duration, Vec<usize>)>,
    /// When a sweep asks for what the journal did not take, and some more.
    pub(super) sweeps: Vec<Duration>,
    /// From when to when the journal's disk fails.
    pub(super) disk: Vec<(Duration, Duration)>,
    /// When the wall clock jumps, and by how many seconds.
    pub(super) jumps: Vec<(Duration, i64)>,
    /// When the gateway is killed, and starts anew.
    pub(super) crashes: Vec<Duration>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct History {
    /// Blobs whose push was acknowledged.
    pub(super) pushed: BTreeMap<Key, Bytes>,
    /// What each zone holds at the end.
    pub(super) held: Vec<BTreeMap<Key, Bytes>>,
    /// What no zone may ever see.
    pub(super) broken: Vec<String>,
    /// Jobs that still wait at the end, …
    pub(super) waiting: u64,
    /// … and what the journal says of them.
    pub(super) journal: String,
    /// How long after the end of all trouble the last copy came; none if it did not.
    pub(super) healed_after: Option<Duration>,
}

/// Moments in the time of trouble, sorted.
pub(super) fn moments(rng: &mut Rng, most: usize) -> Vec<Duration> {
    let mut moments: Vec<_> = (0..rng.usize(..=most)).map(|_| TROUBLE.mul_f64(rng.f64())).collect();
    moments.sort_unstable();
    moments
}

impl World {
    /// Whatever happens.
    pub(super) fn any(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let scripts = ZONES
            .iter()
            .map(|_| {
                let mut script: Script =
                    moments(&mut rng, 6).into_iter().map(|at| (at, Manner::any(&mut rng))).collect();
                script.push((TROUBLE, Manner::Well));
                script
            })
            .collect();
        let pushes = moments(&mut rng, 30)
            .into_iter()
            .map(|at| (at, (0..rng.usize(1..6)).map(|_| rng.usize(..BLOBS)).collect()))
            .collect();
        let sweeps = moments(&mut rng, 3);
        let disk = moments(&mut rng, 3)
            .into_iter()
            .map(|at| (at, at + Duration::from_secs(rng.u64(1..200))))
            .collect();
        let jumps = moments(&mut rng, 3).into_iter().map(|at| (at, rng.i64(-86_400..86_400))).collect();
        let crashes = moments(&mut rng, 3);
        Self { seed, scripts, pushes, sweeps, disk, jumps, crashes }
    }

    /// Runs it.
    pub(super) fn run(&self) -> History {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // Chance in the lanes comes from this thread's generator.
        fastrand::seed(self.seed);
        runtime.expect("a runtime").block_on(self.live())
    }

    async fn live(&self) -> History {
        let start = Instant::now();
        let stores: Vec<_> = self
            .scripts
            .iter()
            .enumerate()
            .map(|(number, script)| Scripted::new(script.clone(), self.seed ^ number as u64))
            .collect();
        let machine = Machine::new(start);
        let mut life = Life {
            world: self,
            start,
            stores,
            journal: machine.journal(),
            machine,
            pushed: BTreeMap::new(),
            owed: BTreeSet::new(),
            running: None,
        };
        life.begin();
        for (at, event) in self.events() {
            sleep_until(start + at).await;
            life.meet(event).await;
        }
        sleep_until(start + TROUBLE).await;
        life.machine.failing.store(false, Ordering::SeqCst);
        life.end().await
    }

    /// Everything that happens, in order.
    fn events(&self) -> Vec<(Duration, Event<'_>)> {
        let mut events: Vec<_> = Vec::new();
        events.extend(self.pushes.iter().map(|(at, blobs)| (*at, Event::Push(blobs))));
        events.extend(self.sweeps.iter().map(|at| (*at, Event::Sweep)));
        events.extend(self.jumps.iter().map(|(at, seconds)| (*at, Event::Jump(*seconds))));
        events.extend(self.crashes.iter().map(|at| (*at, Event::Crash)));
        for (from, to) in &self.disk {
            events.push((*from, Event::Disk(true)));
            events.push((*to, Event::Disk(false)));
        }
        events.retain(|(at, _)| *at < TROUBLE);
        events.sort_by_key(|(at, _)| *at);
        events
    }
}

enum Event<'a> {
    Push(&'a [usize]),
    Sweep,
    Jump(i64),
    Crash,
    /// Whether the disk fails from now on.
    Disk(bool),
}

/// The machine below the gateway: its disk, and its clock.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    start: Instant,
    failing: Arc<AtomicBool>,
    /// Seconds that the wall clock is off.
    off: Arc<AtomicI64>,
    disk: Arc<Mutex<rusqlite::Connection>>,
}

impl Machine {
    pub(super) fn new(start: Instant) -> Self {
        let disk = Simulated::disk();
        Self { start, failing: Arc::default(), off: Arc::default(), disk }
    }

    /// The journal on its disk, as a process opens it.
    pub(super) fn journal(&self) -> Journal {
        let (machine, failing) = (self.clone(), Arc::clone(&self.failing));
        Journal::simulated(Simulated {
            disk: Arc::clone(&self.disk),
            clock: Arc::new(move || machine.now()),
            failing: Arc::new(move || failing.load(Ordering::SeqCst)),
        })
    }

    fn now(&self) -> SystemTime {
        // Any day will do.
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.start.elapsed();
        let off = self.off.load(Ordering::SeqCst);
        let by = Duration::from_secs(off.unsigned_abs());
        if off < 0 { day - by } else { day + by }
    }
}

/// A world under way.
struct Life<'a> {
    world: &'a World,
    start: Instant,
    stores: Vec<Arc<Scripted>>,
    machine: Machine,
    journal: Journal,
    pushed: BTreeMap<Key, Bytes>,
    /// Of these, what the journal did not take when it was asked last: for the sweep.
    owed: BTreeSet<Key>,
    running: Option<(FanOut, CancellationToken)>,
}

impl Life<'_> {
    /// The gateway starts.
    fn begin(&mut self) {
        let zones = ZONES
            .iter()
            .zip(&self.stores)
            .map(|(name, store)| Zone::new(name, Arc::clone(store) as Arc<dyn Store>))
            .collect();
        self.journal = self.machine.journal();
        let shutdown = CancellationToken::new();
        let fan_out = FanOut::start(Setup::new(zones, self.journal.clone()), shutdown.clone());
        self.running = Some((fan_out, shutdown));
    }

    /// It is killed, in the midst of whatever it does, and starts anew.
    async fn crash(&mut self) {
        if let Some((fan_out, shutdown)) = self.running.take() {
            shutdown.cancel();
            fan_out.stopped().await;
        }
        sleep(Duration::from_secs(1)).await;
        self.begin();
    }

    async fn meet(&mut self, event: Event<'_>) {
        match event {
            Event::Push(blobs) => self.push(blobs).await,
            Event::Sweep => self.sweep().await,
            Event::Jump(seconds) => self.machine.off.store(seconds, Ordering::SeqCst),
            Event::Disk(failing) => self.machine.failing.store(failing, Ordering::SeqCst),
            Event::Crash => self.crash().await,
        }
    }

    /// A push that the registry takes: its blobs lie in its store, and are acknowledged, whether the
    /// journal could be written or not.
    async fn push(&mut self, numbers: &[usize]) {
        let mut pushed = Vec::new();
        for number in numbers.iter().collect::<BTreeSet<_>>() {
            let bytes = Bytes::from(format!("blob {number} of {}", self.world.seed).repeat(1 + number));
            let blob = blob(&bytes);
            self.stores[0].pushed(&blob.key, &bytes);
            self.pushed.insert(blob.key.clone(), bytes.clone());
            pushed.push((blob, Some(bytes.len() as u64)));
        }
        self.queue(&pushed).await;
    }

    /// What the journal did not take, and some of what it did.
    async fn sweep(&mut self) {
        let swept = |key: &Key| self.owed.contains(key) || fastrand::u8(..4) == 0;
        let again = self.pushed.iter().filter(|(key, _)| swept(key));
        let again: Vec<_> = again.map(|(_, bytes)| (blob(bytes), Some(bytes.len() as u64))).collect();
        self.queue(&again).await;
    }

    async fn queue(&mut self, blobs: &[(Blob, Option<u64>)]) {
        let targets: Vec<Arc<str>> = ZONES.iter().map(|zone| Arc::from(*zone)).collect();
        let Some((fan_out, _)) = &self.running else { return };
        let queued = fan_out.enqueue("org/repo", blobs, &targets).await.is_ok();
        for (blob, _) in blobs {
            match queued {
                true => self.owed.remove(&blob.key),
                false => self.owed.insert(blob.key.clone()),
            };
        }
    }

    /// All is well again, and what is owed is swept; then there is an end.
    async fn end(mut self) -> History {
        let owed = self.pushed.iter().filter(|(key, _)| self.owed.contains(key));
        let owed: Vec<_> = owed.map(|(_, bytes)| (blob(bytes), Some(bytes.len() as u64))).collect();
        self.queue(&owed).await;
        let (mut healed_after, mut waiting, mut journal) = (None, u64::MAX, String::new());
        while self.start.elapsed() < TROUBLE + HEALED && waiting > 0 {
            sleep(Duration::from_secs(1)).await;
            let counts = self.journal.counts().await.expect("the disk is well");
            journal = format!("{counts:#?}");
            waiting = counts.iter().map(|count| count.jobs + count.parked).sum();
            let whole = self.stores.iter().all(|store| store.objects() == self.pushed);
            healed_after = whole.then(|| healed_after.unwrap_or(self.start.elapsed() - TROUBLE));
        }
        History {
            held: self.stores.iter().map(|store| store.objects()).collect(),
            broken: self.stores.iter().flat_map(|store| store.broken()).collect(),
            waiting,
            journal,
            pushed: self.pushed,
            healed_after,
        }
    }
}
