//! Tests one copy at a time.

mod existing;
mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use backends::faulty::{Fault as Spoil, Faulty, On};
use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind, Source, Store};
use bytes::Bytes;
use zone_router::{Blob, Zone};

use super::super::conformance::{Mode, Scripted, blob, job};
use super::super::copy::{Copier, JobEnd};
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
        server_side: Arc::default(),
        verified: Arc::default(),
    }
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

fn copied(from: &str) -> Outcome {
    Outcome::Copied { from: Some(from.into()), bytes: GOOD.len() as u64, replaced: false }
}

fn replaced(from: &str) -> Outcome {
    Outcome::Copied { from: Some(from.into()), bytes: GOOD.len() as u64, replaced: true }
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
