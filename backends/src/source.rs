//! Bytes to be written that can be read more than once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::{ByteStream, Digest, Error, Key, Kind, Result, Store};

/// Opens any range of bytes that can be read repeatedly.
#[async_trait]
pub trait Open: Send + Sync {
    /// Opens the bytes of `range`, which lies within the size of the [`Source`].
    async fn open(&self, range: Range<u64>) -> Result<ByteStream>;
}

/// What a `put` writes: a known size, a known digest, and bytes that can be opened more than once. A driver
/// can therefore retry, cut parts and sign without help from the caller.
#[derive(Clone)]
pub struct Source {
    size: u64,
    digest: Digest,
    open: Arc<dyn Open>,
}

impl Source {
    /// A source from any [`Open`].
    pub fn new(size: u64, digest: Digest, open: Arc<dyn Open>) -> Self {
        Self { size, digest, open }
    }

    /// A source from bytes in memory.
    #[must_use]
    pub fn bytes(bytes: Bytes) -> Self {
        Self::new(bytes.len() as u64, Digest::of(&bytes), Arc::new(bytes))
    }

    /// A source from an object of another store. Copies between stores use this.
    #[must_use]
    pub fn object(from: Arc<dyn Store>, key: Key, size: u64, digest: Digest) -> Self {
        Self::new(size, digest, Arc::new(FromStore { from, key }))
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Opens a range of the source.
    ///
    /// # Errors
    /// Any error of the origin, with [`Kind::Source`], because the store that is written to is not at fault.
    pub async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let body = self.open.open(range).await.map_err(as_source)?;
        Ok(body.map(|item| item.map_err(as_source)).boxed())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("size", &self.size)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

fn as_source(error: Error) -> Error {
    match error.kind() {
        Kind::Source => error,
        _ => Error::new(Kind::Source, "read the source").with_cause(error),
    }
}

struct FromStore {
    from: Arc<dyn Store>,
    key: Key,
}

#[async_trait]
impl Open for FromStore {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        match self.from.get(&self.key, Some(range)).await? {
            Some(object) => Ok(object.body),
            None => Err(Error::new(
                Kind::Unavailable,
                format!("read {}: the object is missing at the source", self.key),
            )),
        }
    }
}

#[async_trait]
impl Open for Bytes {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = bounds
            .filter(|(start, end)| start <= end && *end <= self.len())
            .map(|(start, end)| self.slice(start..end))
            .ok_or_else(|| Error::new(Kind::Invalid, "read beyond the end of bytes in memory"))?;
        Ok(stream::once(async move { Ok(part) }).boxed())
    }
}
