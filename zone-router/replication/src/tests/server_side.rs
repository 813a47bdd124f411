//! Tests server-side copies.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use backends::memory::MemoryStore;
use backends::{CopySource, Digest, Error, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use zone_router::{Blob, Zone};

use super::super::conformance::{blob, job};
use super::super::copy::Copier;
use super::super::{Fault, Outcome};
use super::copies::copier;

/// How the store reacts to a request for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyBehaviour {
    Copies,
    /// Copies everything but the last byte.
    Shortens,
    Fails(Kind),
}

type Zones = Arc<Mutex<HashMap<String, Arc<MemoryStore>>>>;

/// One of several zones on one store.
#[derive(Debug)]
struct SharedZone {
    name: &'static str,
    objects: Arc<MemoryStore>,
    zones: Zones,
    behaviour: Mutex<CopyBehaviour>,
    fails: Mutex<Option<Kind>>,
    gets: AtomicUsize,
    puts: AtomicUsize,
    copies: AtomicUsize,
}

#[async_trait]
impl Store for SharedZone {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.objects.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        if let Some(kind) = *self.fails.lock() {
            return Err(Error::new(kind, "scripted"));
        }
        self.objects.get(key, range).await
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.objects.put(key, source).await
    }

    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        Some(CopySource::new(Digest::of(b"shared"), format!("{}/{key}", self.name)))
    }

    async fn copy(&self, key: &Key, from: &CopySource, _size: u64) -> Result<bool> {
        let Some(path) = from.path(Some(Digest::of(b"shared"))) else { return Ok(false) };
        self.copies.fetch_add(1, Ordering::SeqCst);
        let behaviour = *self.behaviour.lock();
        if let CopyBehaviour::Fails(kind) = behaviour {
            return Err(Error::new(kind, "scripted"));
        }
        let (zone, name) = path.split_once('/').unwrap();
        let zone = Arc::clone(&self.zones.lock()[zone]);
        let object = zone.get(&Key::new(name), None).await?.unwrap();
        let pieces: Vec<Bytes> = futures_util::TryStreamExt::try_collect(object.body).await?;
        let mut bytes = pieces.concat();
        if behaviour == CopyBehaviour::Shortens {
            bytes.pop();
        }
        self.objects.insert(key.clone(), bytes);
        Ok(true)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        self.objects.list(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects.delete(key).await
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }
}

/// Large enough for a server-side copy.
static BYTES: [u8; (1 << 20) + 5] = [7; (1 << 20) + 5];
const SIZE: u64 = BYTES.len() as u64;

/// Zones a and b on one store; a has the blob.
struct Fixture {
    a: Arc<SharedZone>,
    b: Arc<SharedZone>,
    blob: Blob,
}

impl Fixture {
    fn new(behaviour: CopyBehaviour) -> Self {
        let zones = Zones::default();
        let zone = |name: &'static str| {
            let objects = Arc::new(MemoryStore::new());
            zones.lock().insert(name.to_owned(), Arc::clone(&objects));
            Arc::new(SharedZone {
                name,
                objects,
                zones: Arc::clone(&zones),
                behaviour: Mutex::new(behaviour),
                fails: Mutex::default(),
                gets: AtomicUsize::new(0),
                puts: AtomicUsize::new(0),
                copies: AtomicUsize::new(0),
            })
        };
        let fixture = Self { a: zone("a"), b: zone("b"), blob: blob(&BYTES) };
        fixture.a.objects.insert(fixture.blob.key.clone(), Bytes::from_static(&BYTES));
        fixture
    }

    /// Copies into zone b.
    fn copier(&self) -> Copier {
        let [a, b] = self.zones();
        copier(vec![a, b])
    }

    fn zones(&self) -> [Zone; 2] {
        let zone = |name: &str, zone: &Arc<SharedZone>| Zone::new(name, Arc::clone(zone) as Arc<dyn Store>);
        [zone("zone-a", &self.a), zone("zone-b", &self.b)]
    }

    fn stores(&self, zone: &SharedZone, bytes: &[u8]) {
        zone.objects.insert(self.blob.key.clone(), Bytes::copy_from_slice(bytes));
    }

    async fn copy(&self, copier: &Copier) -> std::result::Result<Outcome, super::super::CopyError> {
        copier.copy(&job(self.blob.clone(), "zone-b", Some(SIZE))).await
    }

    /// The number of gets at a, gets at b, server-side copies into b, and puts at b.
    fn done(&self) -> [usize; 4] {
        [&self.a.gets, &self.b.gets, &self.b.copies, &self.b.puts].map(|count| count.load(Ordering::SeqCst))
    }

    async fn held(&self) -> Option<Bytes> {
        self.held_by(&self.b).await
    }

    async fn held_by(&self, zone: &SharedZone) -> Option<Bytes> {
        let object = zone.objects.get(&self.blob.key, None).await.unwrap()?;
        Some(futures_util::TryStreamExt::try_collect::<Vec<_>>(object.body).await.unwrap().concat().into())
    }
}

fn copied() -> Outcome {
    Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: false }
}

#[tokio::test]
async fn a_source_is_read_before_the_store_copies_it() {
    let fixture = Fixture::new(CopyBehaviour::Copies);
    let copier = fixture.copier();
    assert_eq!(fixture.copy(&copier).await.unwrap(), copied());
    assert_eq!(fixture.done(), [1, 0, 1, 0]);
    assert!(fixture.held().await.as_deref() == Some(&BYTES[..]));
    assert_eq!(fixture.copy(&copier).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(fixture.done(), [1, 0, 1, 0], "read once");
}

/// Wrong bytes are never copied, so that none need to be removed.
#[tokio::test]
async fn a_wrong_source_is_not_copied() {
    let mut flipped = BYTES.to_vec();
    flipped[7] ^= 1;
    for wrong in [&BYTES[..1 << 20], &flipped, b"short"] {
        for size in [None, Some(SIZE), Some(1 << 20), Some(4711)] {
            let fixture = Fixture::new(CopyBehaviour::Copies);
            fixture.stores(&fixture.a, wrong);
            let copier = fixture.copier();
            let error = copier.copy(&job(fixture.blob.clone(), "zone-b", size)).await.unwrap_err();
            assert_eq!(error.fault, Fault::Sources, "{error}");
            assert_eq!((fixture.done()[2], fixture.held().await), (0, None));
        }
    }
}

/// If the target has an object, there is no server-side copy: only bytes that were verified on their way
/// replace it.
#[tokio::test]
async fn a_server_side_copy_overwrites_nothing() {
    let mut flipped = BYTES.to_vec();
    flipped[7] ^= 1;
    for wrong in [&BYTES[..1 << 20], b"", &flipped] {
        let fixture = Fixture::new(CopyBehaviour::Copies);
        fixture.stores(&fixture.b, wrong);
        let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: true };
        let done = fixture.copier().copy(&job(fixture.blob.clone(), "zone-b", Some(0))).await.unwrap();
        assert_eq!((done, fixture.done()[2..].to_vec()), (replaced, vec![0, 1]));
        assert!(fixture.held().await.as_deref() == Some(&BYTES[..]));
    }
}

/// One zone has a truncated object and the other the right one. Each is copied into the other, with any
/// stated size.
#[tokio::test]
async fn copies_in_both_directions_keep_the_right_object() {
    const CUT: usize = 1 << 20;
    for size in [None, Some(SIZE), Some(CUT as u64), Some(4711)] {
        for _ in 0..3 {
            let fixture = Fixture::new(CopyBehaviour::Copies);
            fixture.stores(&fixture.a, &BYTES[..CUT]);
            fixture.stores(&fixture.b, &BYTES);
            let [a, b] = fixture.zones();
            let (to_a, to_b) = (copier(vec![b.clone(), a.clone()]), copier(vec![a, b]));
            let jobs = [job(fixture.blob.clone(), "zone-a", size), job(fixture.blob.clone(), "zone-b", size)];
            let (at_a, at_b) = tokio::join!(to_a.copy(&jobs[0]), to_b.copy(&jobs[1]));
            let replaced = Outcome::Copied { from: Some("zone-b".into()), bytes: SIZE, replaced: true };
            assert_eq!((at_a.unwrap(), at_b.unwrap()), (replaced, Outcome::AlreadyThere), "{size:?}");
            for zone in [&fixture.a, &fixture.b] {
                assert!(fixture.held_by(zone).await.as_deref() == Some(&BYTES[..]), "{size:?}");
            }
            assert_eq!(fixture.b.puts.load(Ordering::SeqCst), 0, "a right object is not written again");
        }
    }
}

#[tokio::test]
async fn a_server_side_copy_of_another_object_is_replaced() {
    let fixture = Fixture::new(CopyBehaviour::Shortens);
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: true };
    assert_eq!(fixture.copy(&fixture.copier()).await.unwrap(), replaced);
    assert_eq!(fixture.done(), [2, 0, 1, 1]);
    assert!(fixture.held().await.as_deref() == Some(&BYTES[..]));
}

/// A source that cannot be read to its end is not copied.
#[tokio::test]
async fn a_source_that_cannot_be_read_is_not_copied() {
    let fixture = Fixture::new(CopyBehaviour::Copies);
    *fixture.a.fails.lock() = Some(Kind::Unavailable);
    assert_eq!(fixture.copy(&fixture.copier()).await.unwrap_err().fault, Fault::Sources);
    assert_eq!((fixture.done()[2], fixture.held().await), (0, None));
}

#[tokio::test]
async fn a_store_that_does_not_copy_is_not_asked_again() {
    for (kind, reads, asked) in [(Kind::Invalid, 3, 1), (Kind::Denied, 3, 1), (Kind::Unavailable, 4, 2)] {
        let fixture = Fixture::new(CopyBehaviour::Fails(kind));
        let copier = fixture.copier();
        for _ in 0..2 {
            assert_eq!(fixture.copy(&copier).await.unwrap(), copied());
            fixture.b.objects.delete(&fixture.blob.key).await.unwrap();
        }
        assert_eq!(fixture.done(), [reads, 0, asked, 2], "{kind:?}");
    }
}

#[tokio::test]
async fn small_blobs_are_relayed() {
    let fixture = Fixture::new(CopyBehaviour::Copies);
    let small = blob(b"small");
    fixture.a.objects.insert(small.key.clone(), Bytes::from_static(b"small"));
    fixture.copier().copy(&job(small, "zone-b", Some(5))).await.unwrap();
    assert_eq!(fixture.done(), [1, 0, 0, 1]);
}
