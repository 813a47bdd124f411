//! Cached blobs as sources of copies.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Error, Kind, Open, Source};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use limits::pool::Identity;
use replication::Local;

use crate::cache::Cache;
use crate::cached_blob::CachedBlob;

/// The cache as a source of copies. A copy counts as a use of its blob, and its disk work belongs to the gateway.
#[derive(Debug)]
pub struct CopySource(pub Arc<Cache>);

#[async_trait]
impl Local for CopySource {
    async fn find(&self, digest: &Digest) -> Option<Source> {
        // Quay has a row and a placement for the empty blob, but no object on S3:
        // `storage/cloud.py:_stream_write_internal` gives up an upload without bytes.
        if *digest == Digest::EMPTY {
            return Some(Source::bytes(Bytes::new()));
        }
        // If the file must first be hashed, it is no faster than a zone.
        if !self.0.holds(digest) {
            return None;
        }
        let blob = self.0.get(&Identity::GATEWAY, digest).await.ok()??;
        Some(Source::new(blob.size, *digest, Arc::new(blob)))
    }

    async fn distrust(&self, digest: &Digest) {
        if let Some(putting_aside) = self.0.distrust(*digest) {
            // An error says that the task panicked, which the log says, too.
            let _ = putting_aside.await;
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
            let failed = |error| Error::new(Kind::Unavailable, "read a cached blob").with_cause(error);
            let bytes = blob.read(&left).await.map_err(failed)?;
            left.start += bytes.len() as u64;
            Ok(Some((bytes, (blob, left))))
        });
        Ok(pieces.boxed())
    }
}
