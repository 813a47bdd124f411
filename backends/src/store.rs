//! The one trait that all drivers share.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::{CopySource, Error, Key, Kind, Meta, Object, Result, Source};

/// The object that Quay writes to see whether a store works (`storage/basestorage.py:validate`).
pub const MARKER: &str = "_verify";

/// One object store: a bucket, container or folder with a root.
///
/// Every call is bounded in time to its first answer and between bytes, never over the whole
/// body. Dropping a future or a stream cancels the work and leaves nothing visible behind.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// What the store says of an object. Absence is an answer, not an error.
    async fn head(&self, key: &Key) -> Result<Option<Meta>>;

    /// Reads an object, whole or in part. Absence is an answer, not an error.
    ///
    /// A range that reaches beyond the object's end is cut there; one that starts at or beyond
    /// the end (of a non-empty object) is [`Kind::Invalid`]. The body gives exactly `Object::range`
    /// or ends in an error. A store that does not say how long an object is has not failed: see
    /// [`Object::size`].
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>>;

    /// Writes an object: atomic (nobody sees a part), idempotent, and verified (bytes that do not
    /// match the source's digest are [`Kind::Corrupt`] and never become visible).
    async fn put(&self, key: &Key, source: &Source) -> Result<()>;

    /// Where an object lies, for another store that may [copy](Store::copy) it by itself; `None` if no
    /// store can. Does not say whether the object exists.
    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        let _ = key;
        None
    }

    /// Server-side copy: the store copies an object of `size` bytes to `key` by itself, so that its bytes do
    /// not pass through this process. Atomic, but **not verified**: the caller proves the bytes before.
    /// Returns `false`, and does nothing, if the store cannot copy from there, or if an object lies at
    /// `key`: a server-side copy never overwrites. An object that appears between that check and the copy
    /// may be overwritten all the same.
    async fn copy(&self, key: &Key, from: &CopySource, size: u64) -> Result<bool> {
        let _ = (key, from, size);
        Ok(false)
    }

    /// Every object whose key below the root starts with `prefix`, in the store's own order.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>>;

    /// Removes an object; one that is not there is removed already. It may be the last copy of its bytes:
    /// only who created it in this place, and knows of another copy, may ask for that.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// A real, small, authenticated read, to learn whether the store serves.
    async fn probe(&self) -> Result<()>;
}

/// What a read of no bytes gives: of a range that is empty, or that the server could not satisfy.
pub(crate) async fn get_nothing(store: &dyn Store, key: &Key, asked: Range<u64>) -> Result<Option<Object>> {
    let Some(meta) = store.head(key).await? else { return Ok(None) };
    let range = meta.part(Some(asked))?;
    if !range.is_empty() {
        return Err(Error::new(Kind::Unavailable, format!("get {key}: a range that exists is refused")));
    }
    Ok(Some(Object { size: Some(meta.size), range, body: stream::empty().boxed(), version: None }))
}
