//! Tests of what an observer learns of the turns of reads, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use zone_router::{Blob, Router, Turn, TurnKind, TurnObserver, Zone};

const MS: Duration = Duration::from_millis(1);
const SIZE: usize = 200_000;

/// Reads after which the router knows how long headers take.
const WARM_UP: usize = 250;

#[derive(Debug, Default)]
struct Noted(Mutex<Vec<(Digest, TurnKind, String)>>);

impl TurnObserver for Noted {
    fn turned(&self, digest: &Digest, turn: Turn) {
        self.0.lock().push((*digest, turn.kind, turn.zone.to_string()));
    }
}

struct Site {
    zones: Vec<Arc<Faulty>>,
    router: Arc<Router>,
    blob: Blob,
    noted: Arc<Noted>,
    _shutdown: DropGuard,
}

impl Site {
    /// The zones `a` and `b`, which are 40 ms away and have been read for a while.
    async fn new() -> Self {
        let bytes: Bytes = vec![7; SIZE].into();
        let digest = Digest::of(&bytes);
        let blob = Blob { digest, key: Key::new(format!("sha256/{}", digest.hex())) };
        let store = || {
            let memory = Arc::new(MemoryStore::new());
            memory.insert(blob.key.clone(), bytes.clone());
            let faulty = Arc::new(Faulty::new(memory));
            faulty.always(On::Any, Fault::Delay(40 * MS));
            faulty
        };
        let zones = vec![store(), store()];
        let named = zones.iter().zip(["a", "b"]).map(|(store, name)| Zone::new(name, Arc::clone(store) as _));
        let router = Arc::new(Router::new(named.collect()));
        let shutdown = CancellationToken::new();
        router.start(&shutdown);
        let site = Self { zones, router, blob, noted: Arc::default(), _shutdown: shutdown.drop_guard() };
        for _ in 0..WARM_UP {
            site.read().await;
        }
        site.router.observe_turns(Arc::clone(&site.noted) as _);
        site
    }

    async fn read(&self) {
        let mut reading = self.router.open(&self.blob, Some(SIZE as u64)).await.expect("some zone opens it");
        while let Some(piece) = reading.body.next().await {
            piece.expect("no error");
        }
    }

    /// Reads with this fault in zone `a`. Returns the turns, which all name the blob.
    async fn turns(&self, fault: Option<Fault>) -> Vec<(TurnKind, String)> {
        if let Some(fault) = fault {
            self.zones[0].always(On::Get, fault);
        }
        self.read().await;
        let noted = std::mem::take(&mut *self.noted.0.lock());
        assert!(noted.iter().all(|(digest, ..)| *digest == self.blob.digest), "{noted:?}");
        noted.into_iter().map(|(_, kind, zone)| (kind, zone)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_straight_read_takes_no_turn() {
    assert_eq!(Site::new().await.turns(None).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_told_and_that_it_won() {
    let turns = Site::new().await.turns(Some(Fault::Delay(300 * MS))).await;
    assert_eq!(turns, [(TurnKind::Hedged, "b".to_owned()), (TurnKind::HedgeWon, "b".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_zone_is_told() {
    let turns = Site::new().await.turns(Some(Fault::Fail(Kind::Unavailable))).await;
    assert_eq!(turns, [(TurnKind::Failed, "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_on_elsewhere_is_told() {
    let turns = Site::new().await.turns(Some(Fault::CutAfter(100_000))).await;
    assert_eq!(turns, [(TurnKind::Resumed, "b".to_owned())]);
}
