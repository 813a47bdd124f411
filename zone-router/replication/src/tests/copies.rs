//! Tests one copy at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use backends::faulty::{Fault as Spoil, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind, Source, Store};
use bytes::Bytes;
use zone_router::{Blob, Zone};

use super::super::conformance::{Mode, Scripted, blob, job};
use super::super::copy::{Copier, JobEnd, ServerSideCopy, VerifiedObjects};
use super::super::journal::Journal;
use super::super::throttle::Throttle;
use super::super::{Bounds, CopyError, Fault, FoundSize, Job, Limits, Local, Outcome, Verify};

const GOOD: &[u8] = b"the right bytes";

struct Three {
    a: Arc<Scripted>,
    b: Arc<Scripted>,
    c: Arc<Scripted>,
    blob: Blob,
}

impl Three {
    fn new() -> Self {
        Self { a: Scripted::new(), b: Scripted::new(), c: Scripted::new(), blob: blob(GOOD) }
    }

    /// Copies into zone b.
    async fn copy(&self, size: Option<u64>) -> Result<Outcome, CopyError> {
        self.copy_of(self.blob.clone(), size).await
    }

    async fn copy_of(&self, blob: Blob, size: Option<u64>) -> Result<Outcome, CopyError> {
        let zones = [self.a.zone("zone-a"), self.b.zone("zone-b"), self.c.zone("zone-c")];
        copier(zones.to_vec()).copy(&job(blob, "zone-b", size)).await
    }

    async fn target_is_good(&self) {
        assert_eq!(self.b.contents().await.into_values().collect::<Vec<_>>(), [GOOD]);
    }
}

/// A copier into the second of these zones.
pub(super) fn copier(zones: Vec<Zone>) -> Copier {
    Copier {
        target: zones[1].clone(),
        journal: Journal::in_memory(),
        zones: Arc::new(zones.into()),
        bounds: Bounds::default(),
        verify: Verify::Size,
        throttle: Arc::new(Throttle::new(Limits::default())),
        router: None,
        local: None,
        authority: None,
        server_side: ServerSideCopy::default(),
        verified: VerifiedObjects::default(),
    }
}

fn copied(from: &str) -> Outcome {
    Outcome::Copied { from: Some(from.into()), bytes: GOOD.len() as u64, replaced: false }
}

fn replaced(from: &str) -> Outcome {
    Outcome::Copied { from: Some(from.into()), bytes: GOOD.len() as u64, replaced: true }
}

/// Two empty objects do not confirm each other for a blob that is not empty.
#[tokio::test]
async fn an_empty_object_is_only_the_empty_blob() {
    let z = Three::new();
    z.a.holds(&z.blob, b"");
    z.b.holds(&z.blob, b"");
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(None).await.unwrap(), replaced("zone-c"));
    z.target_is_good().await;
}

#[tokio::test]
async fn a_blob_is_copied_from_the_first_zone_that_has_it() {
    let z = Three::new();
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"));
    z.target_is_good().await;
    assert_eq!(z.copy(Some(15)).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.copy(None).await.unwrap(), Outcome::AlreadyThere);
    let other = Three::new();
    other.a.holds(&other.blob, GOOD);
    other.c.holds(&other.blob, GOOD);
    assert_eq!(other.copy(None).await.unwrap(), copied("zone-a"));
}

#[tokio::test]
async fn if_a_source_fails_or_breaks_off_the_next_one_is_read() {
    for mode in [Mode::Breaks, Mode::Fails(Kind::Unavailable), Mode::Fails(Kind::Denied)] {
        let z = Three::new();
        z.a.holds(&z.blob, GOOD);
        z.a.set(mode);
        z.c.holds(&z.blob, GOOD);
        assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"), "{mode:?}");
        z.target_is_good().await;
    }
}

#[tokio::test]
async fn wrong_bytes_are_never_stored() {
    let z = Three::new();
    z.a.holds(&z.blob, b"the wrong bytes");
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert_eq!(error.failures.len(), 1);
    assert!(error.failures[0].counts() && &*error.failures[0].zone == "zone-a");
    assert!(!error.is_target_down());
    assert!(z.b.contents().await.is_empty());
    // The zone with wrong bytes is the first source, and the right one the second.
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"));
    z.target_is_good().await;
}

#[tokio::test]
async fn an_object_of_the_wrong_size_is_replaced() {
    for size in [Some(15), None] {
        let z = Three::new();
        z.b.holds(&z.blob, b"cut short");
        z.a.holds(&z.blob, GOOD);
        assert_eq!(z.copy(size).await.unwrap(), replaced("zone-a"));
        z.target_is_good().await;
    }
}

#[tokio::test]
async fn a_wrong_size_from_a_client_does_no_harm() {
    // Only the target has an object: it is read and hashed.
    let z = Three::new();
    z.b.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // A second zone has an object of the same size: the blob is not copied again.
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // Only a source has an object: it is copied.
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), copied("zone-a"));
    z.target_is_good().await;
}

/// If another zone has another size, an object of the size that a client stated is read.
#[tokio::test]
async fn a_wrong_size_from_a_client_keeps_no_wrong_object() {
    for size in [None, Some(9), Some(15), Some(4711)] {
        let z = Three::new();
        z.b.holds(&z.blob, b"cut short");
        z.c.holds(&z.blob, GOOD);
        assert_eq!(z.copy(size).await.unwrap(), replaced("zone-c"), "{size:?}");
        z.target_is_good().await;
        // The same with the zones exchanged: the right object is not written again, and the wrong one is not
        // copied.
        let z = Three::new();
        z.b.holds(&z.blob, GOOD);
        z.a.holds(&z.blob, b"cut short");
        assert_eq!(z.copy(size).await.unwrap(), Outcome::AlreadyThere, "{size:?}");
        assert_eq!(z.b.puts.load(Ordering::SeqCst), 0);
        z.target_is_good().await;
    }
}

/// If all stated sizes agree, nothing is read. If no size is stated, the object is read.
#[tokio::test]
async fn an_object_is_read_only_if_sizes_do_not_decide() {
    for (size, a, reads) in [
        (Some(15), Some(GOOD), 0),
        // Zone c does not answer, and may hold the blob in another size.
        (Some(15), None, 1),
        (None, Some(GOOD), 0),
        (None, None, 1),
        (Some(7), Some(GOOD), 1),
    ] {
        let z = Three::new();
        z.b.holds(&z.blob, GOOD);
        a.iter().for_each(|bytes| z.a.holds(&z.blob, bytes));
        z.c.set(Mode::Fails(Kind::Unavailable));
        assert_eq!(z.copy(size).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), reads, "{size:?}");
    }
    // Other bytes of the right size. A job that demands reading must find them.
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, b"the wrong bytes");
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-a"));
    z.target_is_good().await;
}

/// A job of size 0 has the object read, even if the cache or other zones know its size.
#[tokio::test]
async fn an_object_found_wrong_is_read_even_if_its_size_is_known() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, b"the wrong bytes");
    let mut copier = copier(vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")]);
    copier.local = Some(FakeCache::new(Source::bytes(Bytes::from_static(GOOD))));
    let found = job(z.blob.clone(), "zone-b", Some(0));
    assert_eq!(copier.copy(&found).await.unwrap(), replaced("the local copy"));
    assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    z.target_is_good().await;
    // A right object is read, and is not changed.
    assert_eq!(copier.copy(&found).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!((z.b.gets.load(Ordering::SeqCst), z.b.puts.load(Ordering::SeqCst)), (2, 1));
    let z = Three::new();
    z.a.holds(&z.blob, b"");
    z.b.holds(&z.blob, b"");
    z.c.holds(&z.blob, GOOD);
    z.c.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(z.copy(Some(0)).await.unwrap_err().fault, Fault::Sources, "two empty objects confirm nothing");
    z.c.set(Mode::Healthy);
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-c"));
    z.target_is_good().await;
}

/// Readers cannot use an object that breaks off in the middle.
#[tokio::test]
async fn an_unreadable_object_is_replaced_or_reported() {
    let z = Spoiled::new();
    z.hold(&[0, 1]);
    z.faulty[1].always(On::Get, Spoil::CutAfter(1000));
    let bytes = z.bytes.len() as u64;
    let unsaid = job(z.blob.clone(), "zone-b", Some(0));
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes, replaced: true };
    assert_eq!(z.copier().copy(&unsaid).await.unwrap(), replaced);
    // If no other zone has the blob, this object may be the blob.
    z.stores[0].delete(&z.blob.key).await.unwrap();
    assert_eq!(z.copier().copy(&unsaid).await.unwrap_err().fault, Fault::Target);
    z.faulty[0].always(On::Any, Spoil::Fail(Kind::Unavailable));
    let error = z.copier().copy(&unsaid).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert!(error.to_string().contains("zone-b: scripted cut"), "{error}");
}

#[tokio::test]
async fn a_damaged_target_without_a_source_is_a_failure() {
    let z = Three::new();
    z.b.holds(&z.blob, b"cut short");
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Nowhere);
    assert!(
        error.to_string().contains("zone-b: the object at the target is not the blob, and is left as it is"),
        "{error}"
    );
    z.a.holds(&z.blob, b"wrong bytes of another size");
    assert_eq!(z.copy(None).await.unwrap_err().fault, Fault::Sources);
    assert_eq!(z.b.contents().await.into_values().collect::<Vec<_>>(), [&b"cut short"[..]]);
}

#[tokio::test]
async fn the_empty_blob_needs_no_source() {
    let z = Three::new();
    let empty = Blob { digest: Digest::EMPTY, key: Key::new("sha256/e3/empty") };
    for mode in [Mode::Fails(Kind::Unavailable), Mode::Healthy] {
        z.a.set(mode);
        z.c.set(mode);
        let outcome = z.copy_of(empty.clone(), Some(3)).await.unwrap();
        let expected = match mode {
            Mode::Healthy => Outcome::AlreadyThere,
            _ => Outcome::Copied { from: None, bytes: 0, replaced: false },
        };
        assert_eq!(outcome, expected);
    }
    assert_eq!(z.b.contents().await.into_values().collect::<Vec<_>>(), [&b""[..]]);
}

#[tokio::test]
async fn faults_are_distinguished() {
    let z = Three::new();
    let error = z.copy(None).await.unwrap_err();
    assert_eq!((error.fault, error.to_string().as_str()), (Fault::Nowhere, "no zone has it"));

    let wait = std::time::Duration::from_secs(7);
    z.b.set(Mode::Fails(Kind::Throttled { retry_after: Some(wait) }));
    let error = z.copy(None).await.unwrap_err();
    assert_eq!((error.fault, error.retry_after()), (Fault::Target, Some(wait)));
    assert!(error.is_target_down() && !error.failures[0].counts());

    z.b.set(Mode::Healthy);
    z.a.set(Mode::Fails(Kind::Timeout));
    let error = z.copy(None).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert_eq!(error.to_string(), "no source; zone-a: scripted: timed out (503)");
}

/// The target shows an object and does not return it. Then a zone does have something, and verified bytes replace it.
#[tokio::test]
async fn what_a_target_shows_and_does_not_return_is_no_absence() {
    let z = Three::new();
    z.b.holds(&z.blob, GOOD);
    z.b.set(Mode::Lists);
    let error = z.copy(Some(0)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Nowhere);
    assert!(!error.is_absent_everywhere());
    let said = "no zone has it; zone-b: the object at the target is shown, but not returned: unavailable";
    assert_eq!(error.to_string(), said);
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-a"));
}

/// A store may drop a write because of the object under that key. This says nothing about the next job. If that object
/// is right, the write is not repeated.
#[tokio::test]
async fn a_dropped_write_is_about_one_object() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.set(Mode::Drops);
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!((error.fault, error.in_doubt), (Fault::Target, true));
    assert!(!error.is_target_down());
    z.b.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(0)).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.b.puts.load(Ordering::SeqCst), 1);
}

/// A job is deferred if there is no capacity to read its object. This sets no read mark, so a proof counts.
#[tokio::test]
async fn an_object_that_is_read_later_is_not_to_be_read_for_ever() {
    let (z, bytes) = (Three::new(), vec![7; 2 << 20]);
    let blob = blob(&bytes);
    z.b.holds(&blob, &bytes);
    let limits = Limits { in_flight: 1 << 20, ..Limits::default() };
    let throttle = Arc::new(Throttle::new(limits));
    let zones = vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let copier = Copier { throttle: Arc::clone(&throttle), ..copier(zones) };
    let _full = throttle.reserve(1 << 20).await;
    let mut waits = std::pin::pin!(throttle.reserve(1 << 20));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    for size in [None, Some(7)] {
        let end = copier.perform(&job(blob.clone(), "zone-b", size)).await;
        assert!(matches!(end, JobEnd::Deferred(FoundSize::Contradicted)), "{end:?}");
    }
}

#[tokio::test]
async fn an_unusable_source_might_have_had_it() {
    let z = Three::new();
    let zones = [Zone::unusable("zone-a", "no such driver"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let job = job(z.blob.clone(), "zone-b", Some(15));
    let copier = copier(zones.to_vec());
    let error = copier.copy(&job).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert!(error.to_string().contains("zone-a: unusable: no such driver"), "{error}");
    z.c.holds(&z.blob, GOOD);
    assert_eq!(copier.copy(&job).await.unwrap(), copied("zone-c"));
}

/// Zones a, b and c, whose stores return faulty bodies, and a blob of several pieces.
struct Spoiled {
    stores: [Arc<MemoryStore>; 3],
    faulty: [Arc<Faulty>; 3],
    blob: Blob,
    bytes: Bytes,
}

impl Spoiled {
    fn new() -> Self {
        let stores = [(); 3].map(|()| Arc::new(MemoryStore::new()));
        let faulty =
            stores.each_ref().map(|store| Arc::new(Faulty::new(Arc::clone(store) as Arc<dyn Store>)));
        let bytes: Bytes = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        Self { stores, faulty, blob: blob(&bytes), bytes }
    }

    fn hold(&self, zones: &[usize]) {
        zones.iter().for_each(|zone| self.stores[*zone].insert(self.blob.key.clone(), self.bytes.clone()));
    }

    fn copier(&self) -> Copier {
        let zone = |at: usize| {
            let name = ["zone-a", "zone-b", "zone-c"][at];
            Zone::new(name, Arc::clone(&self.faulty[at]) as Arc<dyn Store>)
        };
        copier((0..3).map(zone).collect())
    }

    async fn copy(&self) -> Result<Outcome, CopyError> {
        self.copy_by(&self.copier()).await
    }

    async fn copy_by(&self, copier: &Copier) -> Result<Outcome, CopyError> {
        copier.copy(&job(self.blob.clone(), "zone-b", Some(self.bytes.len() as u64))).await
    }

    fn calls(&self, zone: usize, on: On) -> u64 {
        self.faulty[zone].calls(on)
    }

    async fn copied_whole(&self, outcome: Result<Outcome, CopyError>, from: &str) {
        let bytes = self.bytes.len() as u64;
        assert_eq!(outcome.unwrap(), Outcome::Copied { from: Some(from.into()), bytes, replaced: false });
        assert_eq!(self.stores[1].head(&self.blob.key).await.unwrap().unwrap().size, bytes);
    }
}

/// A first try asks the target and reads from the best source. Only if the size differs, all sources are
/// asked.
#[tokio::test]
async fn a_first_try_sends_as_few_requests_as_possible() {
    for size in [1000, 1 << 20, 5 << 20] {
        let mut z = Spoiled::new();
        z.bytes = Bytes::from(vec![7; size]);
        z.blob = blob(&z.bytes);
        z.hold(&[0, 2]);
        z.copied_whole(z.copy().await, "zone-a").await;
        let calls = [z.calls(0, On::Head), z.calls(0, On::Get), z.calls(1, On::Head), z.calls(1, On::Put)];
        assert_eq!(calls, [0, 1, 1, 1], "{size}");
        assert_eq!((z.calls(2, On::Head), z.calls(2, On::Get)), (0, 0), "{size}");
        // If the target has the blob, it is not written again.
        assert_eq!(z.copy().await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.calls(1, On::Put), 1);
    }
    let z = Spoiled::new();
    z.hold(&[2]);
    let lie = job(z.blob.clone(), "zone-b", Some(5));
    z.copied_whole(z.copier().copy(&lie).await, "zone-c").await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_off_continues_at_the_next_byte() {
    let z = Spoiled::new();
    z.hold(&[0]);
    z.faulty[0].once(On::Get, Spoil::CutAfter(1_000_000));
    z.copied_whole(z.copy().await, "zone-a").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (2, 1), "one put, read in two pieces");

    // A source breaks off and stays broken: another source continues.
    for fault in [Spoil::CutAfter(1_000_000), Spoil::StallAfter(1_000_000)] {
        let z = Spoiled::new();
        z.hold(&[0, 2]);
        z.faulty[0].always(On::Get, fault);
        z.copied_whole(z.copy().await, "zone-a").await;
        let calls = (z.calls(0, On::Get), z.calls(2, On::Get), z.calls(1, On::Put));
        assert_eq!(calls, (1, 1, 1), "{fault:?}");
    }

    // No source continues: the number of tries is bounded, and nothing is written.
    let z = Spoiled::new();
    z.hold(&[0, 2]);
    z.faulty[0].always(On::Get, Spoil::CutAfter(100_000));
    z.faulty[2].always(On::Get, Spoil::CutAfter(100_000));
    let error = z.copy().await.unwrap_err();
    assert_eq!((error.fault, error.failures.len()), (Fault::Sources, 2), "{error}");
    assert_eq!((z.calls(0, On::Get), z.calls(2, On::Get)), (2, 2));
    assert!(z.stores[1].head(&z.blob.key).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_large_blob_is_copied_over_a_connection_that_sometimes_breaks() {
    let mut z = Spoiled::new();
    z.bytes = Bytes::from(vec![7; 100 << 20]);
    z.blob = blob(&z.bytes);
    z.hold(&[0]);
    z.faulty[0].always(On::Get, Spoil::CutAfter(20 << 20));
    z.copied_whole(z.copy().await, "zone-a").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (5, 1));
}

/// The source that continues after a broken one gives wrong bytes. Neither is trusted, and each is tried alone.
#[tokio::test(start_paused = true)]
async fn the_source_of_wrong_bytes_is_found_among_several() {
    for (liar, honest) in [(0, 2), (2, 0)] {
        let z = Spoiled::new();
        z.hold(&[0, 2]);
        z.faulty[0].once(On::Get, Spoil::CutAfter(1_000_000));
        z.faulty[liar].always(On::Get, Spoil::FlipBit(77));
        z.copied_whole(z.copy().await, ["zone-a", "zone-b", "zone-c"][honest]).await;
    }
}

#[tokio::test]
async fn an_object_of_another_size_never_continues_a_body() {
    let z = Spoiled::new();
    z.hold(&[0]);
    z.stores[2].insert(z.blob.key.clone(), Bytes::from_static(b"of another size"));
    z.faulty[0].always(On::Get, Spoil::CutAfter(1_000_000));
    let outcome = z.copy().await;
    z.copied_whole(outcome, "zone-a").await;
    assert_eq!(z.calls(0, On::Get), 2);
}

/// Bytes that a target refuses were right when they were sent: the source is not blamed, and is not asked
/// again.
#[tokio::test]
async fn a_digest_that_the_target_refuses_is_the_targets_fault() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.c.holds(&z.blob, GOOD);
    z.b.set(Mode::Refuses(Kind::Corrupt));
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!((error.fault, &*error.failures[0].zone), (Fault::Target, "zone-b"));
    assert!(!error.is_target_down());
    assert_eq!(z.c.gets.load(Ordering::SeqCst), 0);
}

/// A cache, and whether its bytes are trusted.
#[derive(Debug)]
struct FakeCache(Source, AtomicBool);

impl FakeCache {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self(source, AtomicBool::new(true)))
    }
}

#[async_trait]
impl Local for FakeCache {
    async fn find(&self, digest: &Digest) -> Option<Source> {
        (*digest == self.0.digest()).then(|| self.0.clone())
    }

    async fn distrust(&self, _: &Digest) {
        self.1.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn the_cache_comes_first_and_a_zone_continues_after_it() {
    let z = Spoiled::new();
    z.hold(&[0, 2]);
    let mut copier = z.copier();
    copier.local = Some(FakeCache::new(Source::bytes(z.bytes.clone())));
    z.copied_whole(z.copy_by(&copier).await, "the local copy").await;
    assert_eq!(z.calls(0, On::Any) + z.calls(2, On::Any), 0, "no zone is asked");
    // The size of the cached blob is right, whatever a client stated.
    let wrong = job(z.blob.clone(), "zone-b", Some(3));
    assert_eq!(copier.copy(&wrong).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.calls(1, On::Get), 0);

    let z = Spoiled::new();
    z.hold(&[0]);
    let broken = Faulty::new(Arc::new(MemoryStore::new()));
    broken.put(&z.blob.key, &Source::bytes(z.bytes.clone())).await.unwrap();
    broken.always(On::Get, Spoil::CutAfter(1_000_000));
    let mut copier = z.copier();
    let size = z.bytes.len() as u64;
    let at_hand = Source::object(Arc::new(broken), z.blob.key.clone(), size, z.blob.digest);
    copier.local = Some(FakeCache::new(at_hand));
    z.copied_whole(z.copy_by(&copier).await, "the local copy").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (1, 1));
    // A cache with wrong bytes is told so, and other sources give the blob.
    let z = Spoiled::new();
    z.hold(&[0]);
    let wrong = Bytes::from(vec![7; z.bytes.len()]);
    let cache = FakeCache::new(Source::new(wrong.len() as u64, z.blob.digest, Arc::new(wrong)));
    let misled = Copier { local: Some(Arc::clone(&cache) as Arc<dyn Local>), ..z.copier() };
    z.copied_whole(z.copy_by(&misled).await, "zone-a").await;
    assert!(!cache.1.load(Ordering::SeqCst));
    // The cache does not have another blob.
    let other = job(blob(b"other"), "zone-b", None);
    assert_eq!(copier.copy(&other).await.unwrap_err().fault, Fault::Nowhere);
}

/// A zone that does not answer confirms no size: a wrong object of the size that a client stated does not
/// stay.
#[tokio::test]
async fn an_unconfirmed_size_keeps_no_wrong_object() {
    let z = Three::new();
    z.b.holds(&z.blob, b"cut short");
    z.a.holds(&z.blob, GOOD);
    z.a.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(z.copy(Some(9)).await.unwrap_err().fault, Fault::Sources);
    z.a.set(Mode::Healthy);
    assert_eq!(z.copy(Some(9)).await.unwrap(), replaced("zone-a"));
    z.target_is_good().await;
    // A zone that cannot be used confirms no size either.
    z.b.holds(&z.blob, b"cut short");
    let zones = [Zone::unusable("zone-a", "no such driver"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let copier = copier(zones.to_vec());
    assert!(copier.copy(&job(z.blob.clone(), "zone-b", Some(9))).await.is_err());
}

/// If an object was read and found right, pushes that state a wrong size do not cause it to be read again.
#[tokio::test]
async fn a_verified_object_is_not_read_again() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, GOOD);
    let copier = copier(vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")]);
    for size in [7, 8, 9] {
        let lie = job(z.blob.clone(), "zone-b", Some(size));
        assert_eq!(copier.copy(&lie).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    }
    // It is also not read again for two pushes that state different sizes.
    for stamp in 1..3 {
        let contradicted = Job { is_contradicted: true, stamp, ..job(z.blob.clone(), "zone-b", None) };
        assert_eq!(copier.copy(&contradicted).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    }
    // The object is not the one that was read. It does not help that another zone has the same size.
    z.b.holds(&z.blob, b"the wrong bytes");
    z.c.holds(&z.blob, b"the wrong bytes");
    let contradicted = Job { is_contradicted: true, ..job(z.blob.clone(), "zone-b", None) };
    assert_eq!(copier.copy(&contradicted).await.unwrap(), replaced("zone-a"));
    z.b.holds(&z.blob, b"the wrong bytes");
    assert_eq!(copier.copy(&job(z.blob.clone(), "zone-b", Some(7))).await.unwrap(), replaced("zone-a"));
}
