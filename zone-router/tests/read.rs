//! Tests of reads over zones that fail, give wrong bytes or lack the blob.

use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Hasher, Key, Kind};
use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::*;
use zone_router::{Answer, Blob, Router, Zone};

/// The blob has several pieces of a `MemoryStore`.
const SIZE: usize = 300_000;

struct Site {
    zones: Vec<Arc<Faulty>>,
    memories: Vec<Arc<MemoryStore>>,
    router: Arc<Router>,
    blob: Blob,
    bytes: Bytes,
}

impl Site {
    /// Zones `a`, `b`, … All of them have the blob.
    fn new(zones: usize) -> Self {
        let bytes: Bytes = (0..SIZE).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        let digest = Digest::of(&bytes);
        let blob = Blob { digest, key: Key::new(format!("sha256/{}", digest.hex())) };
        let memories: Vec<_> = (0..zones).map(|_| Arc::new(MemoryStore::new())).collect();
        memories.iter().for_each(|memory| memory.insert(blob.key.clone(), bytes.clone()));
        let faulty: Vec<_> =
            memories.iter().map(|memory| Arc::new(Faulty::new(Arc::clone(memory) as _))).collect();
        let named = faulty
            .iter()
            .zip(["a", "b", "c", "d"])
            .map(|(zone, name)| Zone::new(name, Arc::clone(zone) as _));
        let router = Arc::new(Router::new(named.collect()));
        Self { zones: faulty, memories, router, blob, bytes }
    }

    fn fault(&self, zone: usize, fault: Fault) {
        self.zones[zone].always(On::Get, fault);
    }

    /// Reads the whole blob. Returns the first zone, the bytes, and the error that cut them.
    async fn read(&self) -> (String, Vec<u8>, Option<Kind>) {
        let mut reading = self.router.open(&self.blob, Some(SIZE as u64)).await.expect("some zone opens it");
        let mut bytes = Vec::new();
        while let Some(piece) = reading.body.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => return (reading.zone.to_string(), bytes, Some(error.kind())),
            }
        }
        (reading.zone.to_string(), bytes, None)
    }

    async fn assert_whole_from(&self, zone: &str) {
        let (first, bytes, error) = self.read().await;
        assert_eq!((first.as_str(), error), (zone, None));
        assert!(bytes == self.bytes, "other bytes");
    }
}

#[tokio::test]
async fn home_serves_alone() {
    let site = Site::new(3);
    site.assert_whole_from("a").await;
    assert_eq!([site.zones[0].calls(On::Any), site.zones[1].calls(On::Any)], [1, 0]);
}

#[tokio::test]
async fn absence_is_no_failure_and_calls_for_a_copy_home() {
    let site = Site::new(2);
    backends::Store::delete(&*site.memories[0], &site.blob.key).await.expect("deletes");
    let reading = site.router.open(&site.blob, None).await.expect("b has it");
    assert_eq!((&*reading.zone, reading.home_lacks_it, reading.size), ("b", true, Some(SIZE as u64)));
}

#[tokio::test]
async fn a_dead_zone_is_passed_over() {
    let site = Site::new(2);
    site.fault(0, Fault::Fail(Kind::Unavailable));
    let reading = site.router.open(&site.blob, None).await.expect("b has it");
    assert!(!reading.home_lacks_it, "not known of a dead zone");
    site.assert_whole_from("b").await;
}

#[tokio::test]
async fn a_cut_body_goes_on_in_the_next_zone() {
    for at in [0, 1, 65_536, 100_000, SIZE as u64 - 1] {
        let site = Site::new(2);
        site.fault(0, Fault::CutAfter(at));
        site.assert_whole_from("a").await;
        assert_eq!(site.zones[1].calls(On::Get), 1);
    }
}

#[tokio::test]
async fn one_zone_alone_gets_a_second_try() {
    let site = Site::new(1);
    site.zones[0].once(On::Get, Fault::CutAfter(70_000));
    site.assert_whole_from("a").await;
    site.fault(0, Fault::CutAfter(10));
    let (_, bytes, error) = site.read().await;
    assert_eq!(error, Some(Kind::Unavailable));
    assert!(site.bytes.starts_with(&bytes));
}

#[tokio::test]
async fn a_liar_is_cut_before_the_end_and_passed_over_next_time() {
    let site = Site::new(2);
    site.fault(0, Fault::FlipBit(12));
    let (zone, bytes, error) = site.read().await;
    assert_eq!((zone.as_str(), error), ("a", Some(Kind::Corrupt)));
    assert!(bytes.len() < SIZE, "wrong bytes were completed");
    site.assert_whole_from("b").await;
}

#[tokio::test]
async fn where_several_gave_parts_each_is_suspect_until_read_again() {
    let site = Site::new(2);
    site.zones[0].once(On::Get, Fault::CutAfter(70_000));
    site.fault(1, Fault::FlipBit(12));
    assert_eq!(site.read().await.2, Some(Kind::Corrupt));
    // Both zones are suspect, and the blob is still served: home alone is read again, and is cleared.
    site.assert_whole_from("a").await;
    site.assert_whole_from("a").await;
}

#[tokio::test]
async fn an_object_of_another_size_is_not_it() {
    let site = Site::new(2);
    site.memories[0].insert(site.blob.key.clone(), site.bytes.slice(..100));
    site.assert_whole_from("b").await;
    site.memories[1].insert(site.blob.key.clone(), Bytes::new());
    let refused = site.router.open(&site.blob, Some(SIZE as u64)).await.expect_err("neither is it");
    assert!(
        refused
            .answers
            .iter()
            .any(|(_, answer)| matches!(answer, Answer::Failed(error) if error.kind() == Kind::Corrupt))
    );
}

/// Reads from zones that do not state the length of the blob. Returns the result of `open` with this expected size, the
/// bytes, and the error that cut them.
async fn without_lengths(site: &Site, expected: Option<u64>) -> (Option<u64>, Vec<u8>, Option<Kind>) {
    let mut reading = site.router.open(&site.blob, expected).await.expect("some zone opens it");
    let mut bytes = Vec::new();
    while let Some(piece) = reading.body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (reading.size, bytes, Some(error.kind())),
        }
    }
    (reading.size, bytes, None)
}

#[tokio::test]
async fn a_zone_that_does_not_say_how_long_it_is_has_not_failed() {
    let site = Site::new(1);
    site.fault(0, Fault::NoLength);
    for expected in [Some(SIZE as u64), None] {
        let read = without_lengths(&site, expected).await;
        assert!(read == (Some(SIZE as u64), site.bytes.to_vec(), None), "{expected:?}");
    }
    // Nobody states the size. The digest decides at the end.
    site.zones[0].always(On::Head, Fault::Fail(Kind::Unavailable));
    assert!(without_lengths(&site, None).await == (None, site.bytes.to_vec(), None));
    site.fault(0, Fault::FlipBit(SIZE as u64 - 1));
    let (size, bytes, error) = without_lengths(&site, None).await;
    assert_eq!((size, error), (None, Some(Kind::Corrupt)));
    assert!(bytes.len() < SIZE, "wrong bytes made a whole");
}

/// Without a length, a body that broke off looks like one that ended.
#[tokio::test]
async fn a_body_that_ends_short_without_a_length_goes_on_elsewhere() {
    let site = Site::new(2);
    site.fault(0, Fault::NoLength);
    site.fault(0, Fault::Short(1000));
    site.fault(1, Fault::NoLength);
    site.assert_whole_from("a").await;
    assert_eq!(site.zones[1].calls(On::Get), 1);
}

#[tokio::test]
async fn a_size_that_others_named_does_not_outlive_bytes_that_are_right() {
    for wrong in [SIZE - 1000, SIZE + 1000, 7] {
        let site = Site::new(1);
        site.fault(0, Fault::NoLength);
        let (size, bytes, error) = without_lengths(&site, Some(wrong as u64)).await;
        assert!(size == Some(wrong as u64) && error.is_some() && bytes.len() < wrong.max(SIZE));
        // The size is doubted, not the zone.
        let read = without_lengths(&site, Some(wrong as u64)).await;
        assert!(read == (Some(SIZE as u64), site.bytes.to_vec(), None), "{wrong}");
    }
}

/// An object that was cut to no bytes is not the blob, even if the registry states a size of 0.
#[tokio::test]
async fn a_size_of_nothing_is_no_size() {
    let site = Site::new(2);
    site.fault(0, Fault::NoLength);
    assert!(without_lengths(&site, Some(0)).await == (Some(SIZE as u64), site.bytes.to_vec(), None));
    site.memories[0].insert(site.blob.key.clone(), Bytes::new());
    assert_eq!(site.router.head(&site.blob).await.map(|meta| meta.size), Some(SIZE as u64));
    backends::Store::delete(&*site.memories[1], &site.blob.key).await.expect("deletes");
    assert_eq!(without_lengths(&site, Some(0)).await, (None, Vec::new(), Some(Kind::Corrupt)));
    // Bytes that were seen elsewhere prove nothing, even if there are enough of them.
    let mut seen = Hasher::new();
    seen.update(&[7; SIZE]);
    for (size, seen) in [(0, Hasher::new()), (SIZE as u64, seen)] {
        let mut body = site.router.resume(&site.blob, size, seen);
        let first = body.next().await.expect("no silent end");
        assert_eq!(first.map_err(|error| error.kind()), Err(Kind::Corrupt));
        assert!(body.next().await.is_none());
    }
}

#[tokio::test]
async fn nobody_has_it() {
    let site = Site::new(2);
    let other = Blob { digest: Digest::of(b"other"), key: Key::new("sha256/other") };
    let refused = site.router.open(&other, None).await.expect_err("absent");
    assert_eq!(refused.to_string(), "a: absent; b: absent");
    assert!(site.router.head(&other).await.is_none());
    assert_eq!(site.router.head(&site.blob).await.map(|meta| meta.size), Some(SIZE as u64));
}

#[tokio::test]
async fn resumed_from_any_byte() {
    let site = Site::new(2);
    site.fault(0, Fault::Fail(Kind::Timeout));
    let mut seen = Hasher::new();
    seen.update(&site.bytes[..123_456]);
    let mut body = site.router.resume(&site.blob, SIZE as u64, seen);
    let mut rest = Vec::new();
    while let Some(piece) = body.next().await {
        rest.extend_from_slice(&piece.expect("no error"));
    }
    assert!(rest == site.bytes[123_456..]);
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let at = 0..SIZE as u64;
    prop_oneof![
        Just(None),
        Just(Some(Fault::Fail(Kind::Unavailable))),
        Just(Some(Fault::Fail(Kind::Denied))),
        Just(Some(Fault::Delay(Duration::from_secs(1)))),
        at.clone().prop_map(|at| Some(Fault::CutAfter(at))),
        at.clone().prop_map(|at| Some(Fault::FlipBit(at))),
        (1..SIZE as u64).prop_map(|by| Some(Fault::Short(by))),
        (1..1000_u64).prop_map(|by| Some(Fault::Long(by))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the zones do, no answer with wrong bytes is completed. While one zone is honest, a client that tries
    /// again gets the right bytes after at most as many tries as there are zones.
    #[test]
    fn never_wrong_and_soon_right(faults in prop::collection::vec(fault(), 3), honest in 0..4_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let site = Site::new(4);
            let others = (0..4).filter(|zone| *zone != honest);
            for (zone, fault) in others.zip(&faults) {
                fault.iter().for_each(|fault| site.fault(zone, *fault));
            }
            for _ in 0..4 {
                let (_, bytes, error) = site.read().await;
                assert!(error.is_some() || bytes == site.bytes, "wrong bytes were completed");
                if error.is_none() {
                    return;
                }
            }
            panic!("an honest zone has it, and four tries did not get it");
        });
    }
}

#[tokio::test]
async fn an_unusable_home_is_passed_over_and_owed_no_copy() {
    let site = Site::new(1);
    let zones =
        vec![Zone::unusable("home", "no such driver"), Zone::new("a", Arc::clone(&site.zones[0]) as _)];
    let router = Arc::new(Router::new(zones));
    let reading = router.open(&site.blob, None).await.expect("a has it");
    assert_eq!((&*reading.zone, reading.home_lacks_it), ("a", false));
    assert!(router.head(&site.blob).await.is_some());
    backends::Store::delete(&*site.memories[0], &site.blob.key).await.expect("deletes");
    let not_opened = router.open(&site.blob, None).await.expect_err("nobody has it");
    assert_eq!(not_opened.to_string(), "a: absent");
}

#[tokio::test]
async fn a_large_blob_outlives_many_resets_between_honest_zones() {
    const MIB: u64 = 1 << 20;
    let bytes: Bytes = vec![7; 60 << 20].into();
    let blob = Blob { digest: Digest::of(&bytes), key: Key::new("sha256/large") };
    let zones = ["a", "b"].map(|name| {
        let memory = MemoryStore::new();
        memory.insert(blob.key.clone(), bytes.clone());
        let zone = Faulty::new(Arc::new(memory));
        zone.always(On::Get, Fault::CutAfter(9 * MIB));
        Zone::new(name, Arc::new(zone))
    });
    let router = Arc::new(Router::new(zones.into()));
    let mut reading = router.open(&blob, Some(60 * MIB)).await.expect("some zone opens it");
    let mut got = 0;
    while let Some(piece) = reading.body.next().await {
        got += piece.expect("no error").len() as u64;
    }
    assert_eq!(got, 60 * MIB);
}

#[tokio::test]
async fn a_suspect_goes_on_only_where_no_other_can() {
    let site = Site::new(3);
    site.zones[0].once(On::Get, Fault::CutAfter(70_000));
    site.zones[1].once(On::Get, Fault::FlipBit(12));
    // It stays unknown which zone gave the wrong bytes, because both give the right ones when they are asked again.
    assert_eq!(site.read().await.2, Some(Kind::Corrupt));
    let before = [0, 1].map(|zone| site.zones[zone].calls(On::Get));
    site.zones[2].once(On::Get, Fault::CutAfter(70_000));
    site.assert_whole_from("c").await;
    assert_eq!(site.zones[2].calls(On::Get), 2);
    assert_eq!([0, 1].map(|zone| site.zones[zone].calls(On::Get)), before);
}
