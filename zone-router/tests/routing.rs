//! Hedges, overdue zones, stalls and trickles, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Policy, Router, Settings, Zone};

const MS: Duration = Duration::from_millis(1);
const SIZE: usize = 200_000;

struct Site {
    zones: Vec<Arc<Faulty>>,
    router: Arc<Router>,
    blob: Blob,
    bytes: Bytes,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Site {
    /// Zones 40 ms away that have been read for a while.
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
            .map(|(store, name)| (Zone::new(name, Arc::clone(store) as _), Policy::default()));
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

    /// Another fault of every read of a zone, on top of its 40 ms.
    fn fault(&self, zone: usize, fault: Fault) {
        self.zones[zone].always(On::Get, fault);
    }

    /// Reads it all: the first zone, how long until it was open, and in all.
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
    assert!(site.router.snapshot().zones[1].counts.hedges_won > view.zones[1].counts.hedges_won);
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
