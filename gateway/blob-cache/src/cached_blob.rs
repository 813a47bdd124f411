//! The open file of a blob.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use backends::in_current_request;
use bytes::Bytes;
use gateway_http::piece_limit;
use limits::pool::Identity;
use tokio_util::task::AbortOnDropHandle;

use crate::disk::{Disk, read_blocking, read_cached};

/// The open file of a blob. The blob is whole and proven, unless it belongs to a fill.
#[derive(Debug, Clone)]
pub struct CachedBlob {
    /// The open file. Eviction unlinks the file, but a reader that has it open can read on.
    pub file: Arc<File>,
    /// Its size in bytes.
    pub size: u64,
    /// The threads that read files.
    pub disk: Disk,
    /// The client that reads it.
    pub reader: Identity,
}

impl CachedBlob {
    /// The same file for another client.
    pub(crate) fn read_by(&self, reader: Identity) -> Self {
        Self { reader, ..self.clone() }
    }

    /// The next bytes of `left`, if the page cache has them; otherwise use [`CachedBlob::read_from_disk`].
    pub(crate) fn read_now(&self, left: &Range<u64>) -> io::Result<Option<Bytes>> {
        read_cached(&self.file, left.start, piece(left))
    }

    /// Reads the next bytes of `left`. Waits for the disk.
    ///
    /// The read has a task of its own: if its client takes nothing, the body that waits for this is not polled, and
    /// would keep a thread that it was given without using it.
    pub(crate) fn read_from_disk(
        &self,
        left: &Range<u64>,
    ) -> impl Future<Output = io::Result<Bytes>> + Send + use<> {
        let (file, disk) = (Arc::clone(&self.file), self.disk.clone());
        let (reader, offset, len) = (self.reader, left.start, piece(left));
        async move {
            let read = async move { disk.run(&reader, move || read_blocking(&file, offset, len)).await };
            let task = AbortOnDropHandle::new(tokio::spawn(in_current_request(read)));
            task.await.map_err(io::Error::other)?
        }
    }

    /// Reads the next bytes of `left`, from the page cache or the disk.
    pub(crate) async fn read(&self, left: &Range<u64>) -> io::Result<Bytes> {
        match self.read_now(left)? {
            Some(bytes) => Ok(bytes),
            None => self.read_from_disk(left).await,
        }
    }
}

/// The bytes of one read: as many as the connection that polls for them may take.
fn piece(left: &Range<u64>) -> usize {
    usize::try_from(left.end - left.start).unwrap_or(usize::MAX).min(piece_limit())
}
