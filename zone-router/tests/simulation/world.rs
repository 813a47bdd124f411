//! A world: scripted zones, the real router, and clients that read, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Digest, Key, Kind};
use bytes::Bytes;
use fastrand::Rng;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Policy, RoutedZone, Router, Settings, SizeClass, Zone};

use crate::script::Script;
use crate::store::{Blobs, PIECE, READ, Scripted};
use crate::trace::{Ending, Event, Trace};

/// How often the test checks which zone leads.
const LOOK: Duration = Duration::from_millis(50);

/// The description of a world.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) seed: u64,
    /// The zones, home first.
    pub(crate) zones: Vec<(Script, Policy)>,
    /// Reads per second, at random times.
    pub(crate) rate: f64,
    /// A blob that is read in addition to the others, and its reads per second.
    pub(crate) hammered: Option<(usize, f64)>,
    /// The share of clients that pause in the middle of a blob, and for how long.
    pub(crate) slow_readers: Option<(f64, Duration)>,
    pub(crate) lasts: Duration,
    /// The number of pieces of the largest blobs.
    pub(crate) pieces: usize,
    /// Whether clients know the sizes of blobs.
    pub(crate) sizes_known: bool,
    /// How often a client tries to get a blob.
    pub(crate) attempts: usize,
    pub(crate) settings: Settings,
    /// When the gateway itself cannot run.
    pub(crate) stalls: Stalls,
}

/// How the gateway itself fails to run, and from which time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stalls {
    Never,
    /// It stops now and then, for some seconds at most, as under a debugger or a limit on CPU time.
    Stops(Duration),
    /// Each step must wait for the processor.
    Starves(Duration),
}

/// The events of a run.
pub(crate) struct History {
    pub(crate) events: Vec<(Duration, Event)>,
}

impl World {
    pub(crate) fn new(seed: u64, zones: Vec<Script>) -> Self {
        Self {
            seed,
            zones: zones.into_iter().map(|script| (script, Policy::default())).collect(),
            rate: 20.0,
            hammered: None,
            slow_readers: None,
            lasts: Duration::from_secs(30),
            pieces: 6,
            sizes_known: true,
            attempts: 1,
            settings: Settings::default(),
            stalls: Stalls::Never,
        }
    }

    /// Runs the world. The same seed gives the same history.
    pub(crate) fn run(&self) -> History {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // The router takes its random numbers from this thread's generator.
        fastrand::seed(self.seed);
        runtime.expect("a runtime").block_on(self.live())
    }

    async fn live(&self) -> History {
        let mut rng = Rng::with_seed(self.seed);
        let blobs: Blobs = Arc::new((0..8).map(|_| blob(&mut rng, self.pieces)).collect());
        let trace = Arc::new(Trace::new());
        let zone = |(index, (script, policy)): (usize, &(Script, Policy))| {
            let store =
                Scripted::new(index, script.clone(), self.seed, Arc::clone(&blobs), Arc::clone(&trace));
            let store = if self.stalls == Stalls::Never { store } else { store.behind_a_driver() };
            RoutedZone { zone: Zone::new(&format!("z{index}"), Arc::new(store)), policy: *policy }
        };
        let router = Arc::new(Router::with(self.zones.iter().enumerate().map(zone).collect(), self.settings));
        let shutdown = CancellationToken::new();
        router.start(&shutdown);
        let stalls = tokio::spawn(stall(self.stalls, Rng::with_seed(self.seed)));
        let looks = tokio::spawn(look(Arc::clone(&router), Arc::clone(&trace)));
        let began = Instant::now();
        let mut clients = JoinSet::new();
        let reads = Arc::new(AtomicUsize::new(0));
        loop {
            // Clients arrive at random times.
            let hammered = self.hammered.map_or(0.0, |(_, rate)| rate);
            sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / (self.rate + hammered))).await;
            if began.elapsed() >= self.lasts {
                break;
            }
            let index = match self.hammered {
                Some((blob, rate)) if rng.f64() < rate / (self.rate + rate) => blob,
                _ => rng.usize(..blobs.len()),
            };
            let (key, bytes) = blobs[index].clone();
            let blob = Blob { digest: Digest::of(&bytes), key };
            let expected = self.sizes_known.then_some(bytes.len() as u64);
            let slow = self.slow_readers.filter(|(share, _)| rng.f64() < *share);
            let client = Client {
                pause: slow.map_or(Duration::ZERO, |(_, pause)| pause),
                router: Arc::clone(&router),
                trace: Arc::clone(&trace),
                blob,
                index,
                bytes,
                expected,
            };
            let (attempts, reads) = (self.attempts, Arc::clone(&reads));
            clients.spawn(async move { client.read(attempts, &reads).await });
        }
        while clients.join_next().await.is_some() {}
        shutdown.cancel();
        stalls.abort();
        looks.abort();
        History { events: trace.take() }
    }
}

/// Lets time pass in which nothing runs.
async fn stall(stalls: Stalls, mut rng: Rng) {
    match stalls {
        Stalls::Never => {}
        Stalls::Stops(from) => {
            sleep(from).await;
            loop {
                sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln())).await;
                advance(Duration::from_secs_f64(0.2 + rng.f64().powi(2) * 3.0)).await;
            }
        }
        Stalls::Starves(from) => {
            sleep(from).await;
            loop {
                // There is always a task that can run, so time passes only in these steps.
                advance(Duration::from_secs_f64(0.01 + rng.f64() * 0.1)).await;
            }
        }
    }
}

/// Makes a blob of a few pieces.
fn blob(rng: &mut Rng, pieces: usize) -> (Key, Bytes) {
    let bytes: Bytes = (0..rng.usize(PIECE..PIECE * pieces)).map(|_| rng.u8(..)).collect::<Vec<_>>().into();
    (Key::new(format!("sha256/{}", Digest::of(&bytes).hex())), bytes)
}

/// Records which zone leads, whenever that changes.
async fn look(router: Arc<Router>, trace: Arc<Trace>) {
    let mut before = None;
    loop {
        let view = router.snapshot();
        let order = view.rank(SizeClass::Small, |_| zone_router::rank::Standing::Clear);
        let states: Vec<_> = view.zones.iter().map(|zone| zone.state.as_str()).collect();
        let now = (order.first().map(|first| first.zone), states);
        if before.as_ref() != Some(&now) {
            trace.note(Event::Leads { zone: now.0, states: now.1.clone() });
            before = Some(now);
        }
        sleep(LOOK).await;
    }
}

struct Client {
    router: Arc<Router>,
    trace: Arc<Trace>,
    blob: Blob,
    index: usize,
    bytes: Bytes,
    expected: Option<u64>,
    /// The pause after the first byte.
    pause: Duration,
}

impl Client {
    /// Tries until it has the blob.
    async fn read(&self, attempts: usize, reads: &AtomicUsize) {
        for attempt in 0..attempts {
            let read = reads.fetch_add(1, Ordering::Relaxed);
            self.trace.note(Event::Began { read, blob: self.index, attempt });
            let how = READ.scope(read, self.once(read)).await;
            let right = how == Ending::Right;
            self.trace.note(Event::Ended { read, how });
            if right {
                return;
            }
        }
    }

    async fn once(&self, read: usize) -> Ending {
        let mut reading = match self.router.open(&self.blob, self.expected).await {
            Ok(reading) => reading,
            Err(not_opened) => return Ending::NotOpened(not_opened.to_string()),
        };
        let mut got = Vec::new();
        while let Some(piece) = reading.body.next().await {
            match piece {
                Ok(piece) => {
                    if got.is_empty() {
                        self.trace.note(Event::FirstByte { read });
                        sleep(self.pause).await;
                    }
                    got.extend_from_slice(&piece);
                }
                Err(error) if error.kind() == Kind::Corrupt => return Ending::Cut("wrong bytes".into()),
                Err(error) => return Ending::Cut(error.to_string()),
            }
        }
        if got == self.bytes { Ending::Right } else { Ending::Wrong }
    }
}
