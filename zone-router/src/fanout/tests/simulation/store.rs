//! A zone that follows its script, takes copies, and watches how they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use backends::{Error, Key, Kind, Meta, Object, Result, Source, Store};
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
    objects: Mutex<BTreeMap<Key, Bytes>>,
    /// Keys that are being written.
    writing: Mutex<BTreeSet<Key>>,
    /// What must never be.
    broken: Mutex<Vec<String>>,
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
            objects: Mutex::default(),
            writing: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    /// What it does now.
    pub(super) fn manner(&self) -> Manner {
        let now = self.start.elapsed();
        self.script.iter().rev().find(|(from, _)| *from <= now).map_or(Manner::Well, |(_, manner)| *manner)
    }

    /// A push of the registry.
    pub(super) fn pushed(&self, key: &Key, bytes: &Bytes) {
        lock(&self.objects).insert(key.clone(), bytes.clone());
    }

    pub(super) fn objects(&self) -> BTreeMap<Key, Bytes> {
        lock(&self.objects).clone()
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
        let size = lock(&self.objects).get(key).map(Bytes::len);
        Ok(size.map(|size| Meta { key: key.clone(), size: size as u64, modified: None }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let manner = self.ask().await?;
        let Some(bytes) = lock(&self.objects).get(key).cloned() else { return Ok(None) };
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
        Ok(Some(Object { meta: Meta { key: key.clone(), size, modified: None }, range, body }))
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
        if backends::Digest::of(&bytes) != source.digest() {
            return Err(Error::new(Kind::Corrupt, "wrong bytes"));
        }
        self.ask().await?;
        lock(&self.objects).insert(key.clone(), bytes);
        match manner {
            Manner::Mute => Err(Error::new(Kind::Unavailable, "broke off before the answer")),
            _ => Ok(()),
        }
    }

    fn list(&self, _: &str) -> BoxStream<'_, Result<Meta>> {
        stream::empty().boxed()
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Err(Error::new(Kind::Invalid, "nothing is deleted here"))
    }

    async fn probe(&self) -> Result<()> {
        self.ask().await.map(drop)
    }
}
