//! A store in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::{Mutex, MutexGuard};

use crate::{Digest, Error, Key, Kind, Meta, Object, Result, Source, Store};

/// Bytes per chunk of a body, similar to the chunks of a network.
const CHUNK: usize = 64 * 1024;

/// Objects in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, (Bytes, SystemTime)>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, SystemTime)>> {
        self.objects.lock()
    }

    /// Inserts bytes without verification. A test uses this to make a store return wrong bytes.
    pub fn insert(&self, key: Key, bytes: impl Into<Bytes>) {
        self.objects().insert(key, (bytes.into(), SystemTime::now()));
    }
}

fn meta(key: &Key, (bytes, modified): &(Bytes, SystemTime)) -> Meta {
    Meta { key: key.clone(), size: bytes.len() as u64, modified: Some(*modified) }
}

#[async_trait]
impl Store for MemoryStore {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        key.checked()?;
        Ok(self.objects().get(key).map(|object| meta(key, object)))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        key.checked()?;
        let Some(object) = self.objects().get(key).cloned() else { return Ok(None) };
        let meta = meta(key, &object);
        let range = meta.part(range)?;
        // The object is in memory, so both ends fit into a `usize`.
        let mut rest = object.0.slice(range.start as usize..range.end as usize);
        let body = stream::iter(std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(CHUNK))))
        }));
        Ok(Some(Object { size: Some(meta.size), range, body: body.boxed(), version: None }))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        key.checked()?;
        let bytes: BytesMut = source.open(0..source.size()).await?.try_collect().await?;
        let bytes = bytes.freeze();
        if Digest::of(&bytes) != source.digest() {
            return Err(Error::new(Kind::Corrupt, format!("put {key}: digest mismatch")));
        }
        self.insert(key.clone(), bytes);
        Ok(())
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let found: Vec<_> = self
            .objects()
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, object)| Ok(meta(key, object)))
            .collect();
        stream::iter(found).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }
}
