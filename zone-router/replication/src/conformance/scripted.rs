//! A store in memory that fails on command.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backends::memory::MemoryStore;
use backends::{Error, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zone_router::{Blob, Zone};

/// How a [`Scripted`] store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Correctly.
    Healthy,
    /// Every call fails with this kind of error.
    Fails(Kind),
    /// `head` answers, and `get` breaks off after the first byte.
    Breaks,
    /// `head` answers, `get` finds nothing.
    Lists,
    /// `put` reads its source and then refuses it.
    Refuses(Kind),
    /// Once, `put` makes an object of the right size with other bytes, and fails with an unknown outcome.
    Spoils,
    /// `put` reads its source and drops it, because the stored object is newer. Swift does that.
    Drops,
    /// `put` panics.
    Panics,
    /// `put` reads one chunk of its source, and then waits for a permit of [`Scripted::gate`].
    Held,
}

/// A store in memory that fails on command, and counts calls.
#[derive(Debug)]
pub struct Scripted {
    pub(crate) objects: MemoryStore,
    mode: Mutex<Mode>,
    /// The semaphore that a `put` waits for in [`Mode::Held`].
    pub gate: Semaphore,
    pub(crate) heads: AtomicUsize,
    pub(crate) gets: AtomicUsize,
    /// How many `put`s have begun.
    pub puts: AtomicUsize,
}

impl Scripted {
    /// An empty, healthy store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: MemoryStore::new(),
            mode: Mutex::new(Mode::Healthy),
            gate: Semaphore::new(0),
            heads: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
        })
    }

    /// The store as a zone.
    #[must_use]
    pub fn zone(self: &Arc<Self>, name: &str) -> Zone {
        Zone::new(name, Arc::clone(self) as Arc<dyn Store>)
    }

    /// Changes how the store behaves.
    ///
    /// # Panics
    /// Another thread panicked while it did the same.
    pub fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Stores the bytes of a blob.
    pub fn holds(&self, blob: &Blob, bytes: &[u8]) {
        self.objects.insert(blob.key.clone(), Bytes::copy_from_slice(bytes));
    }

    /// Everything that is stored, by key.
    ///
    /// # Panics
    /// An object vanishes meanwhile.
    pub async fn contents(&self) -> BTreeMap<String, Bytes> {
        let mut contents = BTreeMap::new();
        let keys: Vec<Meta> = self.objects.list("").try_collect().await.unwrap();
        for meta in keys {
            let object = self.objects.get(&meta.key, None).await.unwrap().unwrap();
            let bytes: bytes::BytesMut = object.body.try_collect().await.unwrap();
            contents.insert(meta.key.to_string(), bytes.freeze());
        }
        contents
    }

    /// Waits until this many `put`s have begun.
    pub async fn has_begun(&self, puts: usize) {
        while self.puts.load(Ordering::SeqCst) < puts {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn mode(&self) -> Result<Mode> {
        match *self.mode.lock() {
            Mode::Fails(kind) => Err(Error::new(kind, "scripted").with_code("503")),
            mode => Ok(mode),
        }
    }
}

#[async_trait]
impl Store for Scripted {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        self.mode()?;
        self.objects.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let mode = self.mode()?;
        if mode == Mode::Lists {
            return Ok(None);
        }
        let Some(mut object) = self.objects.get(key, range).await? else { return Ok(None) };
        if mode == Mode::Breaks {
            let broken = Error::new(Kind::Unavailable, "connection reset");
            object.body = stream::iter([Ok(Bytes::from_static(b"x")), Err(broken)]).boxed();
        }
        Ok(Some(object))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        match self.mode()? {
            Mode::Panics => panic!("scripted"),
            Mode::Spoils => {
                self.set(Mode::Healthy);
                let whole: Vec<Bytes> = source.open(0..source.size()).await?.try_collect().await?;
                self.objects.insert(key.clone(), Bytes::from(vec![0; whole.concat().len()]));
                return Err(Error::new(Kind::Unavailable, "scripted").with_unknown_outcome());
            }
            Mode::Refuses(kind) => {
                let _: Vec<Bytes> = source.open(0..source.size()).await?.try_collect().await?;
                return Err(Error::new(kind, "scripted").with_code("BadDigest"));
            }
            Mode::Drops => {
                let _: Vec<Bytes> = source.open(0..source.size()).await?.try_collect().await?;
                let dropped = Error::new(Kind::Throttled { retry_after: None }, "scripted");
                return Err(dropped.with_code("202").with_unknown_outcome());
            }
            Mode::Held => {
                source.open(0..source.size()).await?.try_next().await?;
                self.gate.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        self.objects.put(key, source).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        self.objects.list(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects.delete(key).await
    }

    async fn probe(&self) -> Result<()> {
        self.mode().map(drop)
    }
}
