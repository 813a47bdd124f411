//! Cached blobs as sources of copies.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Error, Kind, Open, Source};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use replication::Local;

use super::outcome::{CachedBlob, Lookup};
use super::store::Cache;

/// The cache as copies see it. To be copied counts as a use of a blob.
#[derive(Debug)]
pub struct AtHand(pub Arc<Cache>);

#[async_trait]
impl Local for AtHand {
    async fn find(&self, digest: &Digest) -> Option<Source> {
        // Quay has a row and a placement of the empty blob, and no object on S3
        // (`storage/cloud.py:_stream_write_internal` gives an upload of no bytes up).
        if *digest == Digest::EMPTY {
            return Some(Source::bytes(Bytes::new()));
        }
        // One that has to be proven first is no nearer than a zone.
        if !self.0.holds(digest) {
            return None;
        }
        match self.0.get(digest).await {
            Lookup::Hit(blob) => Some(Source::new(blob.size, *digest, Arc::new(blob))),
            Lookup::Absent | Lookup::Unusable => None,
        }
    }
}

#[async_trait]
impl Open for CachedBlob {
    async fn open(&self, range: Range<u64>) -> backends::Result<ByteStream> {
        let pieces = stream::try_unfold((self.clone(), range), |(blob, mut left)| async move {
            if left.is_empty() {
                return Ok(None);
            }
            let read = match blob.read_now(&left) {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => blob.read_from_disk(&left).await,
                Err(error) => Err(error),
            };
            let failed = |error| Error::new(Kind::Unavailable, "read a cached blob").with_cause(error);
            let bytes = read.map_err(failed)?;
            left.start += bytes.len() as u64;
            Ok(Some((bytes, (blob, left))))
        });
        Ok(pieces.boxed())
    }
}
