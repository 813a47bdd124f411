//! A zone that follows its script, takes copies, and watches how they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Error, Key, Kind, Meta, Object, Result, Source, Store, Whereabouts};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

/// After so long without an answer a driver gives up.
const DRIVER: Duration = Duration::from_secs(10);

/// How a zone behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Well,
    /// Connections are refused.
    Refuses,
    /// Nothing is answered.
    Hangs,
    /// Half of all requests fail.
    Falters,
    /// It asks for patience.
    Throttles,
    /// Keys are not accepted.
    Denies,
    /// Bodies break off in the middle.
    Breaks,
    /// Bodies have a wrong bit.
    Lies,
    /// What is put is kept, and then the connection breaks before the answer.
    Mute,
}

impl Manner {
    pub(super) fn any(rng: &mut Rng) -> Self {
        use Manner::{Breaks, Denies, Falters, Hangs, Lies, Mute, Refuses, Throttles, Well};
        let all = [Well, Refuses, Hangs, Falters, Throttles, Denies, Breaks, Lies, Mute];
        all[rng.usize(..all.len())]
    }
}

/// A zone's whole life: what it does from when on, the earliest first.
pub(super) type Script = Vec<(Duration, Manner)>;

#[derive(Debug)]
pub(super) struct Scripted {
    script: Script,
    start: Instant,
    rng: Mutex<Rng>,
    shelf: Arc<Shelf>,
    /// Where it copies from by itself, and what it is called there.
    house: Option<(House, String)>,
    /// Keys that are being written.
    writing: Mutex<BTreeSet<Key>>,
    /// What must never be.
    broken: Mutex<Vec<String>>,
}

/// Zones of one store, which copies between them.
pub(super) type House = Arc<Mutex<BTreeMap<String, Arc<Shelf>>>>;

/// What a zone holds.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    /// Right copies that the gateway took away or spoiled.
    lost: Mutex<Vec<String>>,
}

impl Shelf {
    /// What the gateway had done, and is watched for.
    fn change(&self, key: &Key, to: Option<Bytes>, how: &str) {
        let mut objects = lock(&self.objects);
        let is_right = |bytes: &Bytes| key.as_str().ends_with(&Digest::of(bytes).hex().to_string());
        if objects.get(key).is_some_and(is_right) && !to.as_ref().is_some_and(is_right) {
            lock(&self.lost).push(format!("a right {key} was lost by a {how}"));
        }
        match to {
            Some(bytes) => objects.insert(key.clone(), bytes),
            None => objects.remove(key),
        };
    }
}

/// A key is being written until this is dropped.
struct Writing<'a>(&'a Scripted, Key);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        lock(&self.0.writing).remove(&self.1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a lock")
}

impl Scripted {
    pub(super) fn new(script: Script, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            script,
            start: Instant::now(),
            rng: Mutex::new(Rng::with_seed(seed)),
            shelf: Arc::default(),
            house: None,
            writing: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    /// The same as one of several in a house.
    pub(super) fn in_house(script: Script, seed: u64, house: &House, name: &str) -> Arc<Self> {
        let mut alone = Self::new(script, seed);
        let shelf = Arc::clone(&alone.shelf);
        lock(house).insert(name.to_owned(), shelf);
        if let Some(store) = Arc::get_mut(&mut alone) {
            store.house = Some((Arc::clone(house), name.to_owned()));
        }
        alone
    }

    /// What it does now.
    pub(super) fn manner(&self) -> Manner {
        let now = self.start.elapsed();
        self.script.iter().rev().find(|(from, _)| *from <= now).map_or(Manner::Well, |(_, manner)| *manner)
    }

    /// A push of the registry.
    pub(super) fn pushed(&self, key: &Key, bytes: &Bytes) {
        lock(&self.shelf.objects).insert(key.clone(), bytes.clone());
    }

    pub(super) fn objects(&self) -> BTreeMap<Key, Bytes> {
        lock(&self.shelf.objects).clone()
    }

    /// Right copies that were lost.
    pub(super) fn lost(&self) -> Vec<String> {
        lock(&self.shelf.lost).clone()
    }

    /// What went wrong that never may.
    pub(super) fn broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    fn half(&self) -> bool {
        lock(&self.rng).bool()
    }

    /// One request, until its headers.
    async fn ask(&self) -> Result<Manner> {
        let manner = self.manner();
        let delay = Duration::from_millis(lock(&self.rng).u64(1..200));
        sleep(delay).await;
        match manner {
            Manner::Refuses => Err(Error::new(Kind::Unavailable, "refused")),
            Manner::Falters if self.half() => Err(Error::new(Kind::Unavailable, "faltered")),
            Manner::Throttles if self.half() => {
                Err(Error::new(Kind::Throttled { retry_after: Some(Duration::from_secs(2)) }, "slow down"))
            }
            Manner::Denies => Err(Error::new(Kind::Denied, "denied")),
            Manner::Hangs => {
                sleep(DRIVER).await;
                Err(Error::new(Kind::Timeout, "no answer"))
            }
            _ => Ok(manner),
        }
    }
}

#[async_trait]
impl Store for Scripted {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.ask().await?;
        let size = lock(&self.shelf.objects).get(key).map(Bytes::len);
        Ok(size.map(|size| Meta { key: key.clone(), size: size as u64, modified: None }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let manner = self.ask().await?;
        let Some(bytes) = lock(&self.shelf.objects).get(key).cloned() else { return Ok(None) };
        let size = bytes.len() as u64;
        let range = range.map_or(0..size, |range| range.start..range.end.min(size));
        let mut part = bytes.slice(range.start as usize..range.end as usize);
        if manner == Manner::Lies && !part.is_empty() {
            let mut wrong = part.to_vec();
            wrong[0] ^= 1;
            part = wrong.into();
        }
        let half = part.split_to(part.len() / 2);
        let rest = match manner {
            Manner::Breaks => Err(Error::new(Kind::Unavailable, "broke off")),
            _ => Ok(part),
        };
        let body = stream::iter([Ok(half), rest]).boxed();
        Ok(Some(Object { size: Some(size), range, body, version: None }))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        if !lock(&self.writing).insert(key.clone()) {
            lock(&self.broken).push(format!("{key} is written twice at once"));
        }
        let _writing = Writing(self, key.clone());
        let manner = self.ask().await?;
        let bytes: BytesMut = source.open(0..source.size()).await?.try_collect().await?;
        let bytes = bytes.freeze();
        // As a driver does, it believes no source.
        if Digest::of(&bytes) != source.digest() {
            return Err(Error::new(Kind::Corrupt, "wrong bytes"));
        }
        self.ask().await?;
        self.shelf.change(key, Some(bytes), "put");
        match manner {
            Manner::Mute => Err(Error::new(Kind::Unavailable, "broke off before the answer")),
            _ => Ok(()),
        }
    }

    fn list(&self, _: &str) -> BoxStream<'_, Result<Meta>> {
        stream::empty().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.ask().await?;
        self.shelf.change(key, None, "delete");
        Ok(())
    }

    fn whereabouts(&self, key: &Key) -> Option<Whereabouts> {
        let (_, name) = self.house.as_ref()?;
        Some(Whereabouts::new(Digest::of(b"the house"), format!("{name}/{key}")))
    }

    /// Goes on whoever waits for it, believes its source, and overwrites what lies there: a look before would
    /// only make that rare.
    async fn copy(&self, key: &Key, from: &Whereabouts, _: u64) -> Result<bool> {
        let manner = self.ask().await?;
        let there = from.path(Some(Digest::of(b"the house"))).and_then(|path| path.split_once('/'));
        let Some(((house, _), (room, _))) = self.house.as_ref().zip(there) else { return Ok(false) };
        let from = Arc::clone(&lock(house)[room]);
        let bytes = lock(&from.objects).get(key).cloned();
        let bytes = bytes.ok_or_else(|| Error::new(Kind::Unavailable, "gone"))?;
        let (shelf, key) = (Arc::clone(&self.shelf), key.clone());
        let delay = Duration::from_millis(lock(&self.rng).u64(1..3000));
        let copied = tokio::spawn(async move {
            sleep(delay).await;
            shelf.change(&key, Some(bytes), "copy within the store");
        });
        copied.await.map_err(|_| Error::new(Kind::Unavailable, "cut"))?;
        match manner {
            Manner::Mute => Err(Error::new(Kind::Unavailable, "broke off before the answer")),
            _ => Ok(true),
        }
    }

    async fn probe(&self) -> Result<()> {
        self.ask().await.map(drop)
    }
}
