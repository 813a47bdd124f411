//! A simulated world: scripted zones, pushes and sweeps, crashes, a clock that jumps. The lanes and the
//! journal's SQL are the real ones, and time is paused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use backends::{Key, Store};
use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Zone};

use super::store::{Behaviour, Script, Scripted};
use crate::conformance::blob;
use crate::journal::Simulated;
use crate::{FanOut, Journal, Setup};

/// The zones. The first one takes the pushes.
const ZONES: [&str; 3] = ["z0", "z1", "z2"];

/// Faults end after this time; then every zone is healthy.
pub(super) const TROUBLE: Duration = Duration::from_secs(1800);

/// Within this time after the faults, every blob is in every zone: twice the longest wait of a job, and a
/// pause.
pub(super) const HEALED: Duration = Duration::from_secs(2 * 600 + 60);

/// The most blobs in a world.
const BLOBS: usize = 40;

/// The events of one simulation.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    /// How each zone behaves, and when.
    pub(super) scripts: Vec<Script>,
    /// When a manifest is pushed, and with which blobs.
    pub(super) pushes: Vec<(Duration, Vec<usize>)>,
    /// When a sweep queues the blobs that the journal could not take, and some more.
    pub(super) sweeps: Vec<Duration>,
    /// From when to when the journal's disk fails.
    pub(super) disk: Vec<(Duration, Duration)>,
    /// When the wall clock jumps, and by how many seconds.
    pub(super) jumps: Vec<(Duration, i64)>,
    /// When the gateway is killed and restarted.
    pub(super) crashes: Vec<Duration>,
}

/// The result of one simulation.
#[derive(Debug)]
pub(super) struct History {
    /// Blobs whose push was acknowledged.
    pub(super) pushed: BTreeMap<Key, Bytes>,
    /// What each zone holds at the end.
    pub(super) held: Vec<BTreeMap<Key, Bytes>>,
    /// Violations that zones have seen.
    pub(super) violations: Vec<String>,
    /// Jobs that still wait at the end.
    pub(super) waiting: u64,
    /// The journal's counts at the end.
    pub(super) journal: String,
    /// How long after the faults the last copy was made; `None` if some are missing.
    pub(super) healed_after: Option<Duration>,
}

/// Random times before the faults end, sorted.
pub(super) fn moments(rng: &mut Rng, most: usize) -> Vec<Duration> {
    let mut moments: Vec<_> = (0..rng.usize(..=most)).map(|_| TROUBLE.mul_f64(rng.f64())).collect();
    moments.sort_unstable();
    moments
}

impl World {
    /// A random world.
    pub(super) fn any(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let scripts = ZONES
            .iter()
            .map(|_| {
                let mut script: Script =
                    moments(&mut rng, 6).into_iter().map(|at| (at, Behaviour::any(&mut rng))).collect();
                script.push((TROUBLE, Behaviour::Healthy));
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

    /// Runs the simulation.
    pub(super) fn run(&self) -> History {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // The lanes take random numbers from this thread's generator.
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
        let mut simulation = Simulation {
            world: self,
            start,
            stores,
            journal: machine.journal(),
            machine,
            pushed: BTreeMap::new(),
            owed: BTreeSet::new(),
            running: None,
        };
        simulation.begin();
        for (at, event) in self.events() {
            sleep_until(start + at).await;
            simulation.apply(event).await;
        }
        sleep_until(start + TROUBLE).await;
        simulation.machine.failing.store(false, Ordering::SeqCst);
        simulation.end().await
    }

    /// All events, in order.
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

/// The gateway's machine: its disk and its clock.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    start: Instant,
    failing: Arc<AtomicBool>,
    /// By how many seconds the wall clock is wrong.
    off: Arc<AtomicI64>,
    disk: Arc<Mutex<rusqlite::Connection>>,
}

impl Machine {
    pub(super) fn new(start: Instant) -> Self {
        let disk = Simulated::disk();
        Self { start, failing: Arc::default(), off: Arc::default(), disk }
    }

    /// Opens the journal on its disk.
    pub(super) fn journal(&self) -> Journal {
        let (machine, failing) = (self.clone(), Arc::clone(&self.failing));
        Journal::simulated(Simulated {
            commit_ms: 20,
            disk: Arc::clone(&self.disk),
            clock: Arc::new(move || machine.now()),
            failing: Arc::new(move || failing.load(Ordering::SeqCst)),
        })
    }

    fn now(&self) -> SystemTime {
        // Any date will do.
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.start.elapsed();
        let off = self.off.load(Ordering::SeqCst);
        let by = Duration::from_secs(off.unsigned_abs());
        if off < 0 { day - by } else { day + by }
    }
}

/// A simulation that runs.
struct Simulation<'a> {
    world: &'a World,
    start: Instant,
    stores: Vec<Arc<Scripted>>,
    machine: Machine,
    journal: Journal,
    pushed: BTreeMap<Key, Bytes>,
    /// Pushed blobs that the journal could not take when they were last queued. The sweep queues them.
    owed: BTreeSet<Key>,
    running: Option<(FanOut, CancellationToken)>,
}

impl Simulation<'_> {
    /// Starts the gateway.
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

    /// Kills the gateway in the middle of its work, and starts it again.
    async fn crash(&mut self) {
        if let Some((fan_out, shutdown)) = self.running.take() {
            shutdown.cancel();
            fan_out.stopped().await;
        }
        sleep(Duration::from_secs(1)).await;
        self.begin();
    }

    async fn apply(&mut self, event: Event<'_>) {
        match event {
            Event::Push(blobs) => self.push(blobs).await,
            Event::Sweep => self.sweep().await,
            Event::Jump(seconds) => self.machine.off.store(seconds, Ordering::SeqCst),
            Event::Disk(failing) => self.machine.failing.store(failing, Ordering::SeqCst),
            Event::Crash => self.crash().await,
        }
    }

    /// A push: the registry stores its blobs and acknowledges them, even if the journal cannot be written.
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

    /// Queues the blobs that the journal could not take, and some others.
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

    /// After the faults: a last sweep, and the wait for the last copy.
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
            violations: self.stores.iter().flat_map(|store| store.violations()).collect(),
            waiting,
            journal,
            pushed: self.pushed,
            healed_after,
        }
    }
}
