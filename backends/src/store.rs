//! The one trait that all drivers share.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::{CopySource, Error, Key, Kind, Meta, Object, Result, Source};

/// The object that Quay writes to test a store (`storage/basestorage.py:validate`).
pub const MARKER: &str = "_verify";

/// One object store: a bucket, container or folder with a root.
/// One call waits a bounded time for the first answer, and a bounded time between bytes. The time for a whole
/// body is not bounded. If the caller drops a future or a stream, the work is cancelled and nothing becomes
/// visible.
///
/// ```
/// use std::sync::Arc;
///
/// use backends::memory::MemoryStore;
/// use backends::{Digest, Key, Kind, Source, Store};
/// use bytes::{Bytes, BytesMut};
/// use futures_util::TryStreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> backends::Result<()> {
/// let (store, key) = (MemoryStore::new(), Key::new("hello"));
/// store.put(&key, &Source::bytes("hello".into())).await?;
///
/// // A range is cut at the end of the object.
/// let object = store.get(&key, Some(1..100)).await?.expect("it was put");
/// assert_eq!((object.size, object.range), (Some(5), 1..5));
/// assert_eq!(object.body.try_collect::<BytesMut>().await?, "ello");
///
/// // Bytes that the digest does not name never become visible.
/// let (other, bytes) = (Key::new("other"), Bytes::from_static(b"jello"));
/// let wrong = Source::new(5, Digest::of(b"hello"), Arc::new(bytes));
/// let refused = store.put(&other, &wrong).await.expect_err("the digest is another");
/// assert_eq!(refused.kind(), Kind::Corrupt);
/// assert!(store.head(&other).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// What the store says about an object. `None` if there is no object; that is not an error.
    async fn head(&self, key: &Key) -> Result<Option<Meta>>;

    /// Reads an object, whole or in part. `None` if there is no object; that is not an error.
    ///
    /// A range that reaches beyond the object's end is cut there. A range that starts at or beyond the end of
    /// an object that is not empty is [`Kind::Invalid`]. The body contains exactly `Object::range`, or ends
    /// in an error. It is not an error if the store does not report the object's size: see [`Object::size`].
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>>;

    /// Writes an object. The write is atomic: nobody sees a part. It is idempotent. It is verified: bytes
    /// that do not match the source's digest are [`Kind::Corrupt`] and never become visible.
    async fn put(&self, key: &Key, source: &Source) -> Result<()>;

    /// The location of an object, for another store that can [copy](Store::copy) it by itself. `None` if no
    /// store can do that. The result does not say whether the object exists.
    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        let _ = key;
        None
    }

    /// Server-side copy: the store copies an object of `size` bytes to `key` by itself, so that the bytes do
    /// not pass through this process. The copy is atomic but **not verified**: the caller must prove the
    /// bytes before.
    ///
    /// If the store cannot copy from `from`, or if `key` already has an object, nothing is copied and the
    /// result is `false`. A server-side copy never overwrites a visible object. It may overwrite an object
    /// that appears between the check and the copy.
    async fn copy(&self, key: &Key, from: &CopySource, size: u64) -> Result<bool> {
        let _ = (key, from, size);
        Ok(false)
    }

    /// All objects whose key below the root starts with `prefix`, in the store's own order.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>>;

    /// Deletes an object. If there is no object, the call succeeds. The object may be the last copy of its
    /// bytes: the caller may delete only an object that it created itself, and only if it knows of another
    /// copy.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// A small authenticated read that shows whether the store works.
    async fn probe(&self) -> Result<()>;
}

/// The result of a read of zero bytes: the range is empty, or the server could not satisfy it.
pub(crate) async fn get_nothing(store: &dyn Store, key: &Key, asked: Range<u64>) -> Result<Option<Object>> {
    let Some(meta) = store.head(key).await? else { return Ok(None) };
    let range = meta.part(Some(asked))?;
    if !range.is_empty() {
        return Err(Error::new(
            Kind::Unavailable,
            format!("get {key}: the store refuses a range that exists"),
        ));
    }
    Ok(Some(Object { size: Some(meta.size), range, body: stream::empty().boxed(), version: None }))
}
