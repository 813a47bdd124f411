//! A zone that follows a script, accepts copies, and checks how they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{CopySource, Digest, Error, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How long a driver waits for an answer.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(10);

/// How a zone behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Healthy,
    /// Connections are refused.
    Refuses,
    /// No request is answered.
    Hangs,
    /// Half of all requests fail.
    HalfFails,
    /// Half of all requests are throttled.
    Throttles,
    /// The credentials are refused.
    Denies,
    /// Bodies break off in the middle.
    Breaks,
    /// Bodies have a wrong bit.
    WrongBytes,
    /// An object is written, and then the connection breaks before the answer.
    LosesAnswer,
    /// An object is written and listed but cannot be read, and the outcome of the write is unknown.
    Hollows,
}

impl Behaviour {
    pub(super) fn any(rng: &mut Rng) -> Self {
        use Behaviour::{
            Breaks, Denies, HalfFails, Hangs, Healthy, Hollows, LosesAnswer, Refuses, Throttles, WrongBytes,
        };
        let all =
            [Healthy, Refuses, Hangs, HalfFails, Throttles, Denies, Breaks, WrongBytes, LosesAnswer, Hollows];
        all[rng.usize(..all.len())]
    }
}

/// How a zone behaves, and from which time on; the earliest first.
pub(super) type Script = Vec<(Duration, Behaviour)>;

#[derive(Debug)]
pub(super) struct Scripted {
    script: Script,
    start: Instant,
    rng: Mutex<Rng>,
    stored: Arc<Objects>,
    /// The store that it shares with other zones, and its name there.
    shared: Option<(SharedStore, String)>,
    /// Keys that are being written.
    writing: Mutex<BTreeSet<Key>>,
    /// Violations of what must always hold.
    violations: Mutex<Vec<String>>,
}

/// A store that several zones share and that makes server-side copies between them, by the names of the
/// zones.
pub(super) type SharedStore = Arc<Mutex<BTreeMap<String, Arc<Objects>>>>;

/// The objects of a zone.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    /// Those objects that are listed but cannot be read.
    hollow: Mutex<BTreeSet<Key>>,
    /// Right copies that the gateway removed or replaced by others.
    lost: Mutex<Vec<String>>,
}

impl Objects {
    fn is_hollow(&self, key: &Key) -> bool {
        self.hollow.lock().contains(key)
    }

    /// A change that the gateway requested. It is checked for the loss of a right copy.
    fn change(&self, key: &Key, to: Option<Bytes>, how: &str) {
        let mut objects = self.objects.lock();
        let is_right = |bytes: &Bytes| key.as_str().ends_with(&Digest::of(bytes).hex().to_string());
        if objects.get(key).is_some_and(is_right) && !to.as_ref().is_some_and(is_right) {
            self.lost.lock().push(format!("a right {key} was lost by a {how}"));
        }
        self.hollow.lock().remove(key);
        match to {
            Some(bytes) => objects.insert(key.clone(), bytes),
            None => objects.remove(key),
        };
    }
}

/// A key counts as being written until this is dropped.
struct Writing<'a>(&'a Scripted, Key);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.lock().remove(&self.1);
    }
}

impl Scripted {
    pub(super) fn new(script: Script, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            script,
            start: Instant::now(),
            rng: Mutex::new(Rng::with_seed(seed)),
            stored: Arc::default(),
            shared: None,
            writing: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// The same, as one of several zones on a shared store.
    pub(super) fn on_shared(script: Script, seed: u64, shared: &SharedStore, name: &str) -> Arc<Self> {
        let mut alone = Self::new(script, seed);
        let objects = Arc::clone(&alone.stored);
        shared.lock().insert(name.to_owned(), objects);
        if let Some(store) = Arc::get_mut(&mut alone) {
            store.shared = Some((Arc::clone(shared), name.to_owned()));
        }
        alone
    }

    /// How the zone behaves now.
    pub(super) fn behaviour(&self) -> Behaviour {
        let now = self.start.elapsed();
        self.script
            .iter()
            .rev()
            .find(|(from, _)| *from <= now)
            .map_or(Behaviour::Healthy, |(_, behaviour)| *behaviour)
    }

    /// The registry stores a pushed blob.
    pub(super) fn pushed(&self, key: &Key, bytes: &Bytes) {
        self.stored.hollow.lock().remove(key);
        self.stored.objects.lock().insert(key.clone(), bytes.clone());
    }

    /// The objects that can be read.
    pub(super) fn objects(&self) -> BTreeMap<Key, Bytes> {
        let mut objects = self.stored.objects.lock().clone();
        objects.retain(|key, _| !self.stored.is_hollow(key));
        objects
    }

    /// Right copies that were lost.
    pub(super) fn lost(&self) -> Vec<String> {
        self.stored.lost.lock().clone()
    }

    /// Violations of what must always hold.
    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    fn half(&self) -> bool {
        self.rng.lock().bool()
    }

    /// One request, up to its headers.
    async fn ask(&self) -> Result<Behaviour> {
        let behaviour = self.behaviour();
        let delay = Duration::from_millis(self.rng.lock().u64(1..200));
        sleep(delay).await;
        match behaviour {
            Behaviour::Refuses => Err(Error::new(Kind::Unavailable, "refused")),
            Behaviour::HalfFails if self.half() => Err(Error::new(Kind::Unavailable, "scripted")),
            Behaviour::Throttles if self.half() => {
                Err(Error::new(Kind::Throttled { retry_after: Some(Duration::from_secs(2)) }, "slow down"))
            }
            Behaviour::Denies => Err(Error::new(Kind::Denied, "denied")),
            Behaviour::Hangs => {
                sleep(DRIVER_TIMEOUT).await;
                Err(Error::new(Kind::Timeout, "no answer"))
            }
            _ => Ok(behaviour),
        }
    }
}

#[async_trait]
impl Store for Scripted {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.ask().await?;
        let size = self.stored.objects.lock().get(key).map(Bytes::len);
        Ok(size.map(|size| Meta { key: key.clone(), size: size as u64, modified: None }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let behaviour = self.ask().await?;
        let Some(bytes) = self.stored.objects.lock().get(key).cloned() else { return Ok(None) };
        if self.stored.is_hollow(key) {
            return Ok(None);
        }
        let size = bytes.len() as u64;
        let range = range.map_or(0..size, |range| range.start..range.end.min(size));
        let mut part = bytes.slice(range.start as usize..range.end as usize);
        if behaviour == Behaviour::WrongBytes && !part.is_empty() {
            let mut wrong = part.to_vec();
            // Another bit than the one that is flipped in a damaged object, so that no flip makes that object
            // right.
            wrong[0] ^= 2;
            part = wrong.into();
        }
        let half = part.split_to(part.len() / 2);
        let rest = match behaviour {
            Behaviour::Breaks => Err(Error::new(Kind::Unavailable, "broke off")),
            _ => Ok(part),
        };
        let body = stream::iter([Ok(half), rest]).boxed();
        Ok(Some(Object { size: Some(size), range, body, version: None }))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        if !self.writing.lock().insert(key.clone()) {
            self.violations.lock().push(format!("{key} is written twice at once"));
        }
        let _writing = Writing(self, key.clone());
        let behaviour = self.ask().await?;
        let bytes: BytesMut = source.open(0..source.size()).await?.try_collect().await?;
        let bytes = bytes.freeze();
        // Verifies its source, as a driver does.
        if Digest::of(&bytes) != source.digest() {
            return Err(Error::new(Kind::Corrupt, "wrong bytes"));
        }
        self.ask().await?;
        self.stored.change(key, Some(bytes), "put");
        match behaviour {
            Behaviour::LosesAnswer => Err(Error::new(Kind::Unavailable, "broke off before the answer")),
            Behaviour::Hollows => {
                self.stored.hollow.lock().insert(key.clone());
                Err(Error::new(Kind::Unavailable, "nobody knows").with_unknown_outcome())
            }
            _ => Ok(()),
        }
    }

    fn list(&self, _: &str) -> BoxStream<'_, Result<Meta>> {
        stream::empty().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.ask().await?;
        self.stored.change(key, None, "delete");
        Ok(())
    }

    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        let (_, name) = self.shared.as_ref()?;
        Some(CopySource::new(Digest::of(b"shared"), format!("{name}/{key}")))
    }

    /// Continues even if the caller stops waiting, does not verify its source, and overwrites any object. An
    /// earlier check would only make this rare.
    async fn copy(&self, key: &Key, from: &CopySource, _: u64) -> Result<bool> {
        let behaviour = self.ask().await?;
        let there = from.path(Some(Digest::of(b"shared"))).and_then(|path| path.split_once('/'));
        let Some(((shared, _), (other, _))) = self.shared.as_ref().zip(there) else { return Ok(false) };
        let from = Arc::clone(&shared.lock()[other]);
        let bytes = from.objects.lock().get(key).cloned().filter(|_| !from.is_hollow(key));
        let bytes = bytes.ok_or_else(|| Error::new(Kind::Unavailable, "gone"))?;
        let (objects, key) = (Arc::clone(&self.stored), key.clone());
        let delay = Duration::from_millis(self.rng.lock().u64(1..3000));
        let copied = tokio::spawn(async move {
            sleep(delay).await;
            objects.change(&key, Some(bytes), "server-side copy");
        });
        copied.await.map_err(|_| Error::new(Kind::Unavailable, "cut"))?;
        match behaviour {
            Behaviour::LosesAnswer => Err(Error::new(Kind::Unavailable, "broke off before the answer")),
            _ => Ok(true),
        }
    }

    async fn probe(&self) -> Result<()> {
        self.ask().await.map(drop)
    }
}
