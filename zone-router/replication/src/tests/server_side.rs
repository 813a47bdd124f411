//! Copies that stores make by themselves.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backends::memory::MemoryStore;
use backends::{CopySource, Digest, Error, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use zone_router::{Blob, Zone};

use super::super::copy::Copier;
use super::super::{Fault, Outcome};
use super::copies::copier;
use super::{blob, job};

/// What the house does when it is asked for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum House {
    Copies,
    /// All but the last byte.
    Shortens,
    Fails(Kind),
}

type Rooms = Arc<Mutex<HashMap<String, Arc<MemoryStore>>>>;

/// One of several stores in one house.
#[derive(Debug)]
struct Room {
    name: &'static str,
    objects: Arc<MemoryStore>,
    rooms: Rooms,
    house: Mutex<House>,
    fails: Mutex<Option<Kind>>,
    gets: AtomicUsize,
    puts: AtomicUsize,
    copies: AtomicUsize,
}

#[async_trait]
impl Store for Room {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.objects.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(Error::new(kind, "scripted"));
        }
        self.objects.get(key, range).await
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.objects.put(key, source).await
    }

    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        Some(CopySource::new(Digest::of(b"the house"), format!("{}/{key}", self.name)))
    }

    async fn copy(&self, key: &Key, from: &CopySource, _size: u64) -> Result<bool> {
        let Some(path) = from.path(Some(Digest::of(b"the house"))) else { return Ok(false) };
        self.copies.fetch_add(1, Ordering::SeqCst);
        let house = *self.house.lock().unwrap();
        if let House::Fails(kind) = house {
            return Err(Error::new(kind, "scripted"));
        }
        let (room, name) = path.split_once('/').unwrap();
        let room = Arc::clone(&self.rooms.lock().unwrap()[room]);
        let object = room.get(&Key::new(name), None).await?.unwrap();
        let pieces: Vec<Bytes> = futures_util::TryStreamExt::try_collect(object.body).await?;
        let mut bytes = pieces.concat();
        if house == House::Shortens {
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

/// Large enough to be copied so.
static BYTES: [u8; (1 << 20) + 5] = [7; (1 << 20) + 5];
const SIZE: u64 = BYTES.len() as u64;

/// Zones a and b in one house; a has the blob.
struct Stage {
    a: Arc<Room>,
    b: Arc<Room>,
    blob: Blob,
}

impl Stage {
    fn new(house: House) -> Self {
        let rooms = Rooms::default();
        let room = |name: &'static str| {
            let objects = Arc::new(MemoryStore::new());
            rooms.lock().unwrap().insert(name.to_owned(), Arc::clone(&objects));
            Arc::new(Room {
                name,
                objects,
                rooms: Arc::clone(&rooms),
                house: Mutex::new(house),
                fails: Mutex::default(),
                gets: AtomicUsize::new(0),
                puts: AtomicUsize::new(0),
                copies: AtomicUsize::new(0),
            })
        };
        let stage = Self { a: room("a"), b: room("b"), blob: blob(&BYTES) };
        stage.a.objects.insert(stage.blob.key.clone(), Bytes::from_static(&BYTES));
        stage
    }

    /// For copies into zone b.
    fn copier(&self) -> Copier {
        let [a, b] = self.zones();
        copier(vec![a, b])
    }

    fn zones(&self) -> [Zone; 2] {
        let zone = |name: &str, room: &Arc<Room>| Zone::new(name, Arc::clone(room) as Arc<dyn Store>);
        [zone("zone-a", &self.a), zone("zone-b", &self.b)]
    }

    fn lies(&self, room: &Room, bytes: &[u8]) {
        room.objects.insert(self.blob.key.clone(), Bytes::copy_from_slice(bytes));
    }

    async fn copy(&self, copier: &Copier) -> std::result::Result<Outcome, super::super::CopyError> {
        copier.copy(&job(self.blob.clone(), "zone-b", Some(SIZE))).await
    }

    /// Gets at a and b, copies and puts at b.
    fn done(&self) -> [usize; 4] {
        [&self.a.gets, &self.b.gets, &self.b.copies, &self.b.puts].map(|count| count.load(Ordering::SeqCst))
    }

    async fn held(&self) -> Option<Bytes> {
        self.held_by(&self.b).await
    }

    async fn held_by(&self, room: &Room) -> Option<Bytes> {
        let object = room.objects.get(&self.blob.key, None).await.unwrap()?;
        Some(futures_util::TryStreamExt::try_collect::<Vec<_>>(object.body).await.unwrap().concat().into())
    }
}

fn copied() -> Outcome {
    Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: false }
}

#[tokio::test]
async fn what_a_store_copies_is_read_before() {
    let stage = Stage::new(House::Copies);
    let copier = stage.copier();
    assert_eq!(stage.copy(&copier).await.unwrap(), copied());
    assert_eq!(stage.done(), [1, 0, 1, 0]);
    assert!(stage.held().await.as_deref() == Some(&BYTES[..]));
    assert_eq!(stage.copy(&copier).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(stage.done(), [1, 0, 1, 0], "proven once");
}

/// Wrong bytes are never copied, so that none need be removed.
#[tokio::test]
async fn a_wrong_source_is_not_copied() {
    let mut flipped = BYTES.to_vec();
    flipped[7] ^= 1;
    for wrong in [&BYTES[..1 << 20], &flipped, b"short"] {
        for size in [None, Some(SIZE), Some(1 << 20), Some(4711)] {
            let stage = Stage::new(House::Copies);
            stage.lies(&stage.a, wrong);
            let copier = stage.copier();
            let error = copier.copy(&job(stage.blob.clone(), "zone-b", size)).await.unwrap_err();
            assert_eq!(error.fault, Fault::Sources, "{error}");
            assert_eq!((stage.done()[2], stage.held().await), (0, None));
        }
    }
}

/// Where something lies, no store copies by itself: bytes go over it that were proven on their way.
#[tokio::test]
async fn a_store_copies_over_nothing() {
    let mut flipped = BYTES.to_vec();
    flipped[7] ^= 1;
    for wrong in [&BYTES[..1 << 20], b"", &flipped] {
        let stage = Stage::new(House::Copies);
        stage.lies(&stage.b, wrong);
        let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: true };
        let done = stage.copier().copy(&job(stage.blob.clone(), "zone-b", Some(0))).await.unwrap();
        assert_eq!((done, stage.done()[2..].to_vec()), (replaced, vec![0, 1]));
        assert!(stage.held().await.as_deref() == Some(&BYTES[..]));
    }
}

/// One zone has a truncated object, the other the right one, and each is to get what the other has; sizes as
/// clients say them.
#[tokio::test]
async fn crossing_copies_leave_the_right_one() {
    const CUT: usize = 1 << 20;
    for size in [None, Some(SIZE), Some(CUT as u64), Some(4711)] {
        for _ in 0..3 {
            let stage = Stage::new(House::Copies);
            stage.lies(&stage.a, &BYTES[..CUT]);
            stage.lies(&stage.b, &BYTES);
            let [a, b] = stage.zones();
            let (to_a, to_b) = (copier(vec![b.clone(), a.clone()]), copier(vec![a, b]));
            let jobs = [job(stage.blob.clone(), "zone-a", size), job(stage.blob.clone(), "zone-b", size)];
            let (at_a, at_b) = tokio::join!(to_a.copy(&jobs[0]), to_b.copy(&jobs[1]));
            let replaced = Outcome::Copied { from: Some("zone-b".into()), bytes: SIZE, replaced: true };
            assert_eq!((at_a.unwrap(), at_b.unwrap()), (replaced, Outcome::AlreadyThere), "{size:?}");
            for room in [&stage.a, &stage.b] {
                assert!(stage.held_by(room).await.as_deref() == Some(&BYTES[..]), "{size:?}");
            }
            assert_eq!(stage.b.puts.load(Ordering::SeqCst), 0, "what is right is not written anew");
        }
    }
}

#[tokio::test]
async fn another_object_than_was_to_be_copied_is_replaced() {
    let stage = Stage::new(House::Shortens);
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: SIZE, replaced: true };
    assert_eq!(stage.copy(&stage.copier()).await.unwrap(), replaced);
    assert_eq!(stage.done(), [2, 0, 1, 1]);
    assert!(stage.held().await.as_deref() == Some(&BYTES[..]));
}

/// A source that cannot be read to its end is not copied, and a relay goes on elsewhere.
#[tokio::test]
async fn a_source_that_cannot_be_read_is_not_copied() {
    let stage = Stage::new(House::Copies);
    *stage.a.fails.lock().unwrap() = Some(Kind::Unavailable);
    assert_eq!(stage.copy(&stage.copier()).await.unwrap_err().fault, Fault::Sources);
    assert_eq!((stage.done()[2], stage.held().await), (0, None));
}

#[tokio::test]
async fn a_store_that_does_not_copy_is_not_asked_again() {
    for (kind, reads, asked) in [(Kind::Invalid, 3, 1), (Kind::Denied, 3, 1), (Kind::Unavailable, 4, 2)] {
        let stage = Stage::new(House::Fails(kind));
        let copier = stage.copier();
        for _ in 0..2 {
            assert_eq!(stage.copy(&copier).await.unwrap(), copied());
            stage.b.objects.delete(&stage.blob.key).await.unwrap();
        }
        assert_eq!(stage.done(), [reads, 0, asked, 2], "{kind:?}");
    }
}

#[tokio::test]
async fn small_blobs_pass_here() {
    let stage = Stage::new(House::Copies);
    let small = blob(b"small");
    stage.a.objects.insert(small.key.clone(), Bytes::from_static(b"small"));
    stage.copier().copy(&job(small, "zone-b", Some(5))).await.unwrap();
    assert_eq!(stage.done(), [1, 0, 0, 1]);
}
