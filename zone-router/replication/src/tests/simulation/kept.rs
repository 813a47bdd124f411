//! Zones that hold any mix of right, shortened, lengthened, flipped, empty and missing blobs. Whatever jobs
//! come, whatever sizes they state, and whenever gateways are killed: no right copy is lost, and if there is
//! a right copy, every zone gets one.

use std::sync::Arc;
use std::time::Duration;

use backends::Store;
use bytes::Bytes;
use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Zone};

use super::store::{Behaviour, Script, Scripted, SharedStore};
use super::world::{HEALED, Machine, TROUBLE, moments};
use super::{SEED, seeds};
use crate::conformance::blob;
use crate::{FanOut, NewJob, Setup, Verify};

const ZONES: [&str; 3] = ["z0", "z1", "z2"];
const BLOBS: usize = 6;

/// The object that a zone has under a blob's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Right,
    Shorter,
    Longer,
    Flipped,
    Empty,
}

impl Held {
    fn any(rng: &mut Rng) -> Self {
        use Held::{Empty, Flipped, Longer, Nothing, Right, Shorter};
        [Nothing, Nothing, Right, Right, Shorter, Longer, Flipped, Empty][rng.usize(..8)]
    }

    fn of(self, bytes: &Bytes) -> Option<Bytes> {
        let mut flipped = bytes.to_vec();
        flipped[0] ^= 1;
        match self {
            Self::Nothing => None,
            Self::Right => Some(bytes.clone()),
            Self::Shorter => Some(bytes.slice(..bytes.len() * 2 / 3)),
            Self::Longer => Some([&bytes[..], b"more"].concat().into()),
            Self::Flipped => Some(flipped.into()),
            Self::Empty => Some(Bytes::new()),
        }
    }
}

/// The events of one simulation.
#[derive(Debug)]
struct World {
    seed: u64,
    scripts: Vec<Script>,
    /// The number of zones that share one store.
    shared: usize,
    /// The objects, by blob and zone.
    held: Vec<[Held; 3]>,
    deep: bool,
    /// The number of gateways. Each has its own journal, as in several clusters.
    gateways: usize,
    /// The time, blob, gateway and stated size of each job. It is queued for all zones.
    jobs: Vec<(Duration, usize, usize, Option<u64>)>,
    /// Time, blob and gateway of each audit that demands that the objects of all zones are read.
    audits: Vec<(Duration, usize, usize)>,
    /// Time and blob of each push.
    pushes: Vec<(Duration, usize)>,
    /// The time and gateway of each kill.
    crashes: Vec<(Duration, usize)>,
    /// The stated size of each blob in the last jobs.
    claims: Vec<Option<u64>>,
    /// Whether every blob is queued once more at the end. If not, the earlier jobs must be enough.
    again: bool,
}

/// The bytes of a blob: large enough for server-side copies, and different from other blobs.
fn bytes(seed: u64, number: usize) -> Bytes {
    format!("blob {number} of {seed}").repeat(120 + number).into()
}

/// A stated size.
fn claim(rng: &mut Rng, bytes: &Bytes) -> Option<u64> {
    let size = bytes.len() as u64;
    match rng.u8(..5) {
        0 => None,
        1 => Some(size),
        2 => Some(size * 2 / 3),
        3 => Some(size + 4),
        _ => Some(4711),
    }
}

impl World {
    fn any(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let script = |rng: &mut Rng| {
            let mut script: Script =
                moments(rng, 4).into_iter().map(|at| (at, Behaviour::any(rng))).collect();
            script.push((TROUBLE, Behaviour::Healthy));
            script
        };
        let scripts = ZONES.iter().map(|_| script(&mut rng)).collect();
        let gateways = rng.usize(1..=2);
        let jobs = moments(&mut rng, 30).into_iter().map(|at| {
            let number = rng.usize(..BLOBS);
            (at, number, rng.usize(..gateways), claim(&mut rng, &bytes(seed, number)))
        });
        let jobs = jobs.collect();
        let audits = moments(&mut rng, 4).into_iter();
        let audits = audits.map(|at| (at, rng.usize(..BLOBS), rng.usize(..gateways))).collect();
        Self {
            seed,
            scripts,
            shared: [0, 2, 3][rng.usize(..3)],
            held: (0..BLOBS).map(|_| [(); 3].map(|()| Held::any(&mut rng))).collect(),
            deep: rng.bool(),
            gateways,
            jobs,
            audits,
            pushes: moments(&mut rng, 4).into_iter().map(|at| (at, rng.usize(..BLOBS))).collect(),
            crashes: moments(&mut rng, 6).into_iter().map(|at| (at, rng.usize(..gateways))).collect(),
            claims: (0..BLOBS).map(|number| claim(&mut rng, &bytes(seed, number))).collect(),
            again: rng.bool(),
        }
    }

    /// Whether a blob must be in every zone at the end. If it is not queued again, its job may have been
    /// parked while no zone had it.
    fn is_owed(&self, number: usize) -> bool {
        self.again
            || (self.held[number].contains(&Held::Right)
                && (self.is_audited(number) || self.jobs.iter().any(|(_, queued, ..)| *queued == number)))
    }

    /// Whether wrong bytes of the right size must be found.
    fn is_audited(&self, number: usize) -> bool {
        self.audits.iter().any(|(_, audited, _)| *audited == number)
    }

    fn run(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // The lanes take random numbers from this thread's generator.
        fastrand::seed(self.seed);
        runtime.expect("a runtime").block_on(self.live())
    }

    async fn live(&self) -> Result<(), String> {
        let start = Instant::now();
        let shared = SharedStore::default();
        let stores: Vec<_> = (0..ZONES.len())
            .map(|zone| {
                let (script, seed) = (self.scripts[zone].clone(), self.seed ^ zone as u64);
                match zone < self.shared {
                    true => Scripted::on_shared(script, seed, &shared, ZONES[zone]),
                    false => Scripted::new(script, seed),
                }
            })
            .collect();
        let blobs: Vec<_> = (0..BLOBS).map(|number| bytes(self.seed, number)).collect();
        for (bytes, held) in blobs.iter().zip(&self.held) {
            for (store, held) in stores.iter().zip(held) {
                if let Some(held) = held.of(bytes) {
                    store.pushed(&blob(bytes).key, &held);
                }
            }
        }
        let gateways = (0..self.gateways).map(|_| Gateway::start(self, &stores, start)).collect();
        let mut simulation = Simulation { world: self, start, stores, blobs, gateways };
        for (at, event) in self.events() {
            sleep_until(start + at).await;
            simulation.apply(event).await;
        }
        sleep_until(start + TROUBLE).await;
        simulation.end().await
    }

    /// All events, in order.
    fn events(&self) -> Vec<(Duration, Event)> {
        let mut events = Vec::new();
        events.extend(self.jobs.iter().map(|(at, number, by, size)| (*at, Event::Job(*number, *by, *size))));
        events.extend(self.audits.iter().map(|(at, number, by)| (*at, Event::Audit(*number, *by))));
        events.extend(self.pushes.iter().map(|(at, number)| (*at, Event::Push(*number))));
        events.extend(self.crashes.iter().map(|(at, gateway)| (*at, Event::Crash(*gateway))));
        events.sort_by_key(|(at, _)| *at);
        events
    }
}

enum Event {
    /// Blob, gateway, stated size.
    Job(usize, usize, Option<u64>),
    /// Blob, gateway.
    Audit(usize, usize),
    Push(usize),
    Crash(usize),
}

/// A running gateway and its machine.
struct Gateway {
    machine: Machine,
    zones: Vec<Zone>,
    verify: Verify,
    running: (FanOut, CancellationToken),
}

impl Gateway {
    fn start(world: &World, stores: &[Arc<Scripted>], start: Instant) -> Self {
        let zones = ZONES.iter().zip(stores);
        let zones: Vec<_> =
            zones.map(|(name, store)| Zone::new(name, Arc::clone(store) as Arc<dyn Store>)).collect();
        let verify = if world.deep { Verify::Deep } else { Verify::Size };
        let machine = Machine::new(start);
        let running = Self::begin(&machine, &zones, verify);
        Self { machine, zones, verify, running }
    }

    fn begin(machine: &Machine, zones: &[Zone], verify: Verify) -> (FanOut, CancellationToken) {
        let shutdown = CancellationToken::new();
        let setup = Setup { verify, ..Setup::new(zones.to_vec(), machine.journal()) };
        (FanOut::start(setup, shutdown.clone()), shutdown)
    }

    /// Kills the gateway and starts it again.
    async fn crash(&mut self) {
        self.running.1.cancel();
        self.running.0.stopped().await;
        self.running = Self::begin(&self.machine, &self.zones, self.verify);
    }

    async fn ask(&self, blob: Blob, size: Option<u64>) {
        let targets: Vec<Arc<str>> = ZONES.iter().map(|zone| Arc::from(*zone)).collect();
        self.running.0.enqueue("org/repo", &[(blob, size)], &targets).await.expect("the disk is well");
    }

    async fn audit(&self, blob: &Blob) {
        let demand = |zone: &&str| NewJob::new(blob.clone(), Arc::from(*zone), Some(0), "org/repo");
        let jobs = ZONES.iter().map(demand).collect();
        self.running.0.journal.add(jobs).await.expect("the disk is well");
    }
}

/// A running simulation.
struct Simulation<'a> {
    world: &'a World,
    start: Instant,
    stores: Vec<Arc<Scripted>>,
    blobs: Vec<Bytes>,
    gateways: Vec<Gateway>,
}

impl Simulation<'_> {
    async fn apply(&mut self, event: Event) {
        match event {
            Event::Job(number, by, size) => self.gateways[by].ask(blob(&self.blobs[number]), size).await,
            Event::Audit(number, by) => self.gateways[by].audit(&blob(&self.blobs[number])).await,
            Event::Push(number) => {
                let bytes = &self.blobs[number];
                self.stores[0].pushed(&blob(bytes).key, bytes);
            }
            Event::Crash(gateway) => self.gateways[gateway].crash().await,
        }
    }

    fn held(&self, number: usize) -> Vec<Option<Bytes>> {
        let key = blob(&self.blobs[number]).key;
        self.stores.iter().map(|store| store.objects().get(&key).cloned()).collect()
    }

    /// Blobs and zones that lack them, although another zone has the blob. Wrong bytes of the right size count
    /// only if objects are verified by reading them, or an audit demanded that.
    fn unhealed(&self) -> Vec<(usize, usize)> {
        let mut unhealed = Vec::new();
        for (number, bytes) in self.blobs.iter().enumerate() {
            let held = self.held(number);
            if !held.iter().flatten().any(|held| held == bytes) || !self.world.is_owed(number) {
                continue;
            }
            let fine = |held: &Option<Bytes>| {
                let is_read = self.world.is_audited(number) || self.world.deep && self.world.again;
                let disguised = |held: &Bytes| held.len() == bytes.len() && !is_read;
                held.as_ref().is_some_and(|held| held == bytes || disguised(held))
            };
            let zones = held.iter().enumerate().filter(|(_, held)| !fine(held));
            unhealed.extend(zones.map(|(zone, _)| (number, zone)));
        }
        unhealed
    }

    /// After the faults: queues every blob once more or not, waits, and checks.
    async fn end(self) -> Result<(), String> {
        let again = self.world.claims.iter().enumerate().filter(|_| self.world.again);
        for (number, size) in again {
            self.gateways[0].ask(blob(&self.blobs[number]), *size).await;
        }
        while self.start.elapsed() < TROUBLE + HEALED && !self.unhealed().is_empty() {
            sleep(Duration::from_secs(5)).await;
        }
        // Server-side copies and jobs that still run get time to do harm.
        sleep(Duration::from_secs(60)).await;
        let lost: Vec<_> = self.stores.iter().flat_map(|store| store.lost()).collect();
        match (lost.first(), self.unhealed()) {
            (Some(lost), _) => Err(lost.clone()),
            (None, unhealed) if unhealed.is_empty() => Ok(()),
            (None, unhealed) => {
                Err(format!("blobs that zones lack, although another zone has them: {unhealed:?}"))
            }
        }
    }
}

#[test]
fn no_right_copy_is_lost_and_every_zone_gets_one() {
    for seed in seeds() {
        let world = World::any(seed);
        if let Err(why) = world.run() {
            panic!(
                "{world:#?}
seed {seed}: {why}
replay:
    {SEED}={seed} cargo test -p replication --lib tests::simulation::kept
"
            );
        }
    }
}
