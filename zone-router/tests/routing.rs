//! Tests of hedges, overdue zones, stalls and slow bodies, on a paused clock.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use zone_router::{Blob, Router, Settings, Zone, ZoneId};

const MS: Duration = Duration::from_millis(1);
const SIZE: usize = 200_000;

struct Site {
    zones: Vec<Arc<Faulty>>,
    router: Arc<Router>,
    blob: Blob,
    bytes: Bytes,
    _shutdown: DropGuard,
}

impl Site {
    /// Zones that are 40 ms away and have been read for a while.
    async fn new(zones: usize, settings: Settings) -> Self {
        let bytes: Bytes = (0..SIZE).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        let digest = Digest::of(&bytes);
        let blob = Blob { digest, key: Key::new(format!("sha256/{}", digest.hex())) };
        let store = || {
            let memory = Arc::new(MemoryStore::new());
            memory.insert(blob.key.clone(), bytes.clone());
            Arc::new(Faulty::new(memory))
        };
        let zones: Vec<_> = (0..zones).map(|_| store()).collect();
        let named = zones
            .iter()
            .zip(["a", "b", "c"])
            .map(|(store, name)| Zone::new(name, Arc::clone(store) as _).into());
        let router = Arc::new(Router::with(named.collect(), settings));
        let shutdown = CancellationToken::new();
        router.start(&shutdown);
        let site = Self { zones, router, blob, bytes, _shutdown: shutdown.drop_guard() };
        site.zones.iter().for_each(|zone| zone.always(On::Any, Fault::Delay(40 * MS)));
        for _ in 0..250 {
            site.read().await;
        }
        site
    }

    /// Adds a fault to every read of a zone, besides its 40 ms.
    fn fault(&self, zone: usize, fault: Fault) {
        self.zones[zone].always(On::Get, fault);
    }

    /// Reads the whole blob. Returns the first zone, the time until the blob was open, and the time for everything.
    async fn read(&self) -> (String, Duration, Duration) {
        let began = Instant::now();
        let mut reading = self.router.open(&self.blob, Some(SIZE as u64)).await.expect("some zone opens it");
        let opened = began.elapsed();
        let mut bytes = Vec::new();
        while let Some(piece) = reading.body.next().await {
            bytes.extend_from_slice(&piece.expect("no error"));
        }
        assert!(bytes == self.bytes, "other bytes");
        (reading.zone.to_string(), opened, began.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_wins_over_a_slow_home() {
    let site = Site::new(2, Settings::default()).await;
    site.fault(0, Fault::Delay(300 * MS));
    let (zone, opened, _) = site.read().await;
    assert_eq!(zone, "b");
    assert!(opened < 100 * MS, "{opened:?}");
    let view = site.router.snapshot();
    tokio::time::sleep(300 * MS).await;
    assert!(
        site.router.snapshot().zones[ZoneId::at(1)].counts.hedges_won
            > view.zones[ZoneId::at(1)].counts.hedges_won
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_an_overdue_zone_is_replaced() {
    let settings = Settings { hedge_percent: 0.0, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.fault(0, Fault::Hang);
    let (zone, opened, _) = site.read().await;
    assert_eq!(zone, "b");
    assert!(opened > 100 * MS && opened < 300 * MS, "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn under_load_nothing_is_hedged() {
    let settings = Settings { hedge_load: 0, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.fault(0, Fault::Delay(60 * MS));
    let (zone, opened, _) = site.read().await;
    assert_eq!(zone, "a");
    assert!(opened >= 100 * MS, "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn without_replacements_home_is_waited_for() {
    let settings = Settings { hedge_percent: 0.0, replacements: 0, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.fault(0, Fault::Delay(Duration::from_secs(2)));
    assert_eq!(site.read().await.0, "a");
}

#[tokio::test(start_paused = true)]
async fn what_was_overdue_is_asked_again_when_no_other_has_it() {
    let settings = Settings { hedge_percent: 0.0, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.fault(0, Fault::Delay(Duration::from_secs(3)));
    site.fault(1, Fault::Fail(Kind::Unavailable));
    let (zone, opened, _) = site.read().await;
    assert_eq!(zone, "a");
    assert!(opened < Duration::from_secs(4), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stall_goes_on_elsewhere() {
    let site = Site::new(2, Settings::default()).await;
    site.fault(0, Fault::StallAfter(70_000));
    let (zone, _, took) = site.read().await;
    assert_eq!(zone, "a");
    assert!(took >= Settings::default().stall && took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_of_two_lied_is_known_at_once() {
    let site = Site::new(3, Settings::default()).await;
    site.zones[0].once(On::Get, Fault::CutAfter(70_000));
    site.fault(1, Fault::FlipBit(12));
    let mut reading = site.router.open(&site.blob, Some(SIZE as u64)).await.expect("some zone opens it");
    let mut last = None;
    while let Some(piece) = reading.body.next().await {
        last = piece.err().map(|error| error.kind());
    }
    assert_eq!(last, Some(Kind::Corrupt));
    assert_eq!(site.read().await.0, "a", "it has given the right bytes since");
    tokio::time::sleep(MS).await;
    assert_eq!(site.router.snapshot().zones.iter().filter(|zone| zone.counts.wrong_bytes > 0).count(), 1);
}

/// A store whose bodies give a piece of 64 KiB after each pause.
#[derive(Debug)]
struct Trickle(Arc<MemoryStore>, Duration);

#[async_trait::async_trait]
impl Store for Trickle {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.0.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let object = self.0.get(key, range).await?;
        let pause = self.1;
        Ok(object.map(|mut object| {
            let slowly = move |piece| async move {
                tokio::time::sleep(pause).await;
                piece
            };
            object.body = object.body.then(slowly).boxed();
            object
        }))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        self.0.put(key, source).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        self.0.list(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }
}

/// A home zone whose body takes 8 s.
const TRICKLE: Duration = Duration::from_millis(500);

/// Zones that have one blob of sixteen pieces.
struct Trickles {
    router: Arc<Router>,
    blob: Blob,
    _shutdown: DropGuard,
}

impl Trickles {
    /// The zones are given by the pause before each piece.
    fn new(pauses: &[Duration]) -> Self {
        let bytes: Bytes = vec![7; 1 << 20].into();
        let blob = Blob { digest: Digest::of(&bytes), key: Key::new("sha256/a") };
        let memory = Arc::new(MemoryStore::new());
        memory.insert(blob.key.clone(), bytes);
        let zone = |(name, pause): (&str, &Duration)| {
            Zone::new(name, Arc::new(Trickle(Arc::clone(&memory), *pause)))
        };
        let zones = ["a", "b"].into_iter().zip(pauses).map(zone).collect();
        let (router, shutdown) = (Arc::new(Router::new(zones)), CancellationToken::new());
        router.start(&shutdown);
        Self { router, blob, _shutdown: shutdown.drop_guard() }
    }

    /// Reads the blob. Returns how long that takes.
    async fn read(&self) -> Duration {
        let began = Instant::now();
        let reading = self.router.open(&self.blob, None).await.expect("a opens it");
        let pieces: Vec<_> = reading.body.collect().await;
        assert!(pieces.iter().all(Result::is_ok));
        began.elapsed()
    }

    /// How many bodies went on in another zone.
    async fn moves(&self) -> u64 {
        tokio::time::sleep(MS).await;
        self.router.snapshot().zones.iter().map(|zone| zone.counts.resumed_elsewhere).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_goes_on_in_a_faster_zone() {
    let took = Trickles::new(&[TRICKLE, Duration::ZERO]).read().await;
    assert!(took <= Duration::from_millis(1500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_zone_alone_is_never_left() {
    assert_eq!(Trickles::new(&[TRICKLE]).read().await, 16 * TRICKLE);
}

/// A link that all zones share makes all bodies slow. Each move costs another request, and brings nothing.
#[tokio::test(start_paused = true)]
async fn a_trickle_stays_if_the_other_zone_is_about_as_slow() {
    for (pause, moves) in [(400 * MS, false), (600 * MS, false), (200 * MS, true)] {
        let zones = Trickles::new(&[TRICKLE, pause]);
        // The first read finds out how fast the other zone is.
        zones.read().await;
        let before = zones.moves().await;
        zones.read().await;
        assert_eq!(zones.moves().await > before, moves, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_lied_is_read_whole_before_it_is_tried() {
    let site = Site::new(2, Settings::default()).await;
    site.fault(0, Fault::FlipBit(12));
    let lied = site.router.open(&site.blob, Some(SIZE as u64)).await.expect("a opens it");
    let pieces: Vec<_> = lied.body.collect().await;
    assert!(pieces.last().is_some_and(Result::is_err));
    // The zone stays out of use while it gives wrong bytes.
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!site.router.snapshot().zones[ZoneId::HOME].serves() && site.read().await.0 == "b");
    }
    // Soon after that, it is in use again.
    site.zones[0].heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(site.router.snapshot().zones[ZoneId::HOME].serves());
}

#[tokio::test(start_paused = true)]
async fn a_slow_zone_that_lied_has_time_to_prove_a_whole_blob() {
    let site = Site::new(2, Settings::default()).await;
    site.fault(0, Fault::FlipBit(12));
    let lied = site.router.open(&site.blob, Some(SIZE as u64)).await.expect("a opens it");
    assert!(lied.body.collect::<Vec<_>>().await.last().is_some_and(Result::is_err));
    site.zones[0].heal();
    site.fault(0, Fault::Delay(Duration::from_secs(5)));
    let mut serves = false;
    for _ in 0..600 {
        tokio::time::sleep(100 * MS).await;
        serves |= site.router.snapshot().zones[ZoneId::HOME].serves();
    }
    assert!(serves, "within a minute");
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_was_merely_late_can_go_on() {
    let settings = Settings { hedge_percent: 0.0, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.zones[0].once(On::Get, Fault::Delay(Duration::from_secs(2)));
    site.zones[1].once(On::Get, Fault::StallAfter(70_000));
    let read = tokio::time::timeout(Duration::from_secs(20), site.read());
    let (zone, _, took) = read.await.expect("it ends");
    assert_eq!(zone, "b");
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_was_not_allowed_comes_a_moment_later() {
    let settings = Settings { hedge_percent: 0.0, replacements: 1, ..Settings::default() };
    let site = Site::new(2, settings).await;
    site.fault(0, Fault::Hang);
    let reads = async { tokio::join!(site.read(), site.read(), site.read()) };
    let (one, two, three) = tokio::time::timeout(Duration::from_secs(20), reads).await.expect("they end");
    for (_, opened, _) in [one, two, three] {
        assert!(opened < 500 * MS, "{opened:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_to_a_home_that_hangs_goes_to_the_next() {
    let site = Site::new(2, Settings::default()).await;
    site.zones[0].always(On::Head, Fault::Hang);
    let began = Instant::now();
    let head = tokio::time::timeout(Duration::from_secs(20), site.router.head(&site.blob));
    assert_eq!(head.await.expect("it ends").map(|meta| meta.size), Some(SIZE as u64));
    assert!(began.elapsed() < 500 * MS, "{:?}", began.elapsed());
    tokio::time::sleep(MS).await;
    assert_eq!(site.router.snapshot().zones[ZoneId::HOME].counts.overdue, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_is_one_strike() {
    let site = Site::new(2, Settings::default()).await;
    for _ in 0..2 {
        site.zones[0].once(On::Any, Fault::Hang);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(site.router.snapshot().zones[ZoneId::HOME].counts.opened, 0);
}

#[tokio::test(start_paused = true)]
async fn a_liar_that_is_also_late_is_still_read_whole() {
    let site = Site::new(2, Settings::default()).await;
    site.fault(0, Fault::FlipBit(12));
    let lied = site.router.open(&site.blob, Some(SIZE as u64)).await.expect("a opens it");
    assert!(lied.body.collect::<Vec<_>>().await.last().is_some_and(Result::is_err));
    site.zones[0].always(On::Any, Fault::Delay(Duration::from_secs(20)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // The zone is as fast as before and still gives wrong bytes. Its first byte, which is all that most probes read, is
    // right.
    site.zones[0].heal();
    site.fault(0, Fault::FlipBit(12));
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!site.router.snapshot().zones[ZoneId::HOME].serves());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_denies_its_marker_is_known_by_what_others_gave() {
    let bytes: Bytes = vec![7; 1000].into();
    let blob = Blob { digest: Digest::of(&bytes), key: Key::new("sha256/a") };
    let memory = Arc::new(MemoryStore::new());
    memory.insert(blob.key.clone(), bytes);
    let stores = [(); 2].map(|()| Arc::new(Faulty::new(Arc::clone(&memory) as _)));
    stores[0].always(On::Probe, Fault::Fail(Kind::Denied));
    let named = stores.iter().zip(["a", "b"]).map(|(store, name)| Zone::new(name, Arc::clone(store) as _));
    let router = Arc::new(Router::new(named.collect()));
    let shutdown = CancellationToken::new();
    router.start(&shutdown);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(router.snapshot().zones[ZoneId::HOME].state.as_str(), "misconfigured");
    let reading = router.open(&blob, None).await.expect("b opens it");
    assert_eq!(&*reading.zone, "b");
    reading.body.for_each(|_| async {}).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(router.snapshot().zones[ZoneId::HOME].serves());
    shutdown.cancel();
}
