//! A router that takes the place of another one, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;
use zone_router::breaker::State;
use zone_router::{Blob, Router, Settings, Zone, ZoneId, ZoneView};

const SIZE: usize = 300_000;

/// A store that has the blob.
fn store(blob: &Blob, bytes: &Bytes) -> Arc<Faulty> {
    let memory = Arc::new(MemoryStore::new());
    memory.insert(blob.key.clone(), bytes.clone());
    Arc::new(Faulty::new(memory))
}

fn blob() -> (Blob, Bytes) {
    let bytes: Bytes = (0..SIZE).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let digest = Digest::of(&bytes);
    (Blob { digest, key: Key::new(format!("sha256/{}", digest.hex())) }, bytes)
}

fn zone(name: &str, store: &Arc<Faulty>) -> Zone {
    Zone::new(name, Arc::clone(store) as _)
}

async fn read(router: &Arc<Router>, blob: &Blob) -> (Arc<str>, usize) {
    let reading = router.open(blob, Some(SIZE as u64)).await.expect("a zone gives it");
    let zone = Arc::clone(&reading.zone);
    let read = reading
        .body
        .into_stream()
        .map_ok(|piece| piece.len())
        .try_fold(0, |all, piece| async move { Ok(all + piece) });
    (zone, read.await.expect("the whole body"))
}

fn view(router: &Router, name: &str) -> ZoneView {
    let snapshot = router.snapshot();
    snapshot.zones.iter().find(|view| &*view.name == name).expect("the zone").clone()
}

/// Waits until the router knows something.
async fn until(router: &Router, name: &str, known: impl Fn(&ZoneView) -> bool) -> ZoneView {
    loop {
        let view = view(router, name);
        if known(&view) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_zone_that_keeps_its_store_stays() {
    let (blob, bytes) = blob();
    let [a, b, c] = [(); 3].map(|()| store(&blob, &bytes));
    let first = Arc::new(Router::new(vec![zone("a", &a), zone("b", &b)]));
    let stop = CancellationToken::new();
    first.start(&stop);
    b.always(On::Any, Fault::Fail(Kind::Unavailable));
    assert_eq!(&*read(&first, &blob).await.0, "a");
    let known = until(&first, "b", |view| matches!(view.state, State::Open { .. })).await;
    let known_of_a = until(&first, "a", |view| view.counts.reads == 1 && view.probe.is_some()).await;
    // `c` is the home zone now, and the others have other ids.
    let zones = vec![zone("c", &c).into(), zone("b", &b).into(), zone("a", &a).into()];
    let second = Arc::new(first.successor(zones, Settings::default(), |name| name != "c"));
    let later = view(&second, "b");
    assert!(matches!(later.state, State::Open { .. }), "{:?}", later.state);
    assert_eq!((later.since, later.counts), (known.since, known.counts));
    let of_a = view(&second, "a");
    assert_eq!((of_a.probe, of_a.counts.reads), (known_of_a.probe, 1));
    assert_eq!(view(&second, "c").counts.reads, 0);
    second.start(&stop);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_where_it_began_and_counts_where_its_zone_is_now() {
    let (blob, bytes) = blob();
    let [gone, stays] = [(); 2].map(|()| store(&blob, &bytes));
    let first = Arc::new(Router::new(vec![zone("gone", &gone), zone("stays", &stays)]));
    let (stop_first, stop) = (CancellationToken::new(), CancellationToken::new());
    first.start(&stop_first);
    let mut from_gone = first.open(&blob, Some(SIZE as u64)).await.expect("opens");
    assert_eq!(&*from_gone.zone, "gone");
    let second = Arc::new(first.successor(vec![zone("stays", &stays).into()], Settings::default(), |_| true));
    second.start(&stop);
    stop_first.cancel();
    let mut body = from_gone.body.into_stream();
    let mut read_bytes = 0;
    while let Some(piece) = body.next().await {
        read_bytes += piece.expect("the zone that is gone still gives its bytes").len();
    }
    assert_eq!(read_bytes, SIZE);
    // A read in the first router, although it was replaced.
    gone.always(On::Get, Fault::Fail(Kind::Unavailable));
    from_gone = first.open(&blob, Some(SIZE as u64)).await.expect("opens");
    assert_eq!(&*from_gone.zone, "stays");
    let counted = until(&second, "stays", |view| view.counts.reads == 1).await;
    assert_eq!(counted.counts.failures, 0);
    assert_eq!(second.find("stays"), Some(ZoneId::HOME));
    assert_eq!(second.find("gone"), None);
}

#[tokio::test(start_paused = true)]
async fn a_zone_with_another_store_begins_anew() {
    let (blob, bytes) = blob();
    let [broken, repaired] = [(); 2].map(|()| store(&blob, &bytes));
    broken.always(On::Any, Fault::Fail(Kind::Denied));
    let first = Arc::new(Router::new(vec![zone("a", &broken)]));
    let (stop_first, stop) = (CancellationToken::new(), CancellationToken::new());
    first.start(&stop_first);
    until(&first, "a", |view| matches!(view.state, State::Open { .. })).await;
    let second = Arc::new(first.successor(vec![zone("a", &repaired).into()], Settings::default(), |_| false));
    stop_first.cancel();
    second.start(&stop);
    assert_eq!(view(&second, "a").state, State::Closed);
    assert_eq!(read(&second, &blob).await, ("a".into(), SIZE));
}
