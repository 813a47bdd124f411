//! A part of a file as a body.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};

use crate::cached_blob::CachedBlob;
use gateway_http::BodyError;

/// Streams a range of a whole blob. Reads from the page cache happen on the calling thread. Only reads from the disk
/// use another thread.
pub struct FileBody {
    blob: CachedBlob,
    left: Range<u64>,
    reading: Option<BoxFuture<'static, io::Result<Bytes>>>,
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBody").finish_non_exhaustive()
    }
}

impl FileBody {
    /// The bytes `range` of a cached blob; `range` lies within its size.
    #[must_use]
    pub fn new(blob: CachedBlob, range: Range<u64>) -> Self {
        Self { blob, left: range, reading: None }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => match self.blob.read_now(&self.left) {
                Ok(Some(bytes)) => return Poll::Ready(Ok(bytes)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(None) => self.reading.insert(self.blob.read_from_disk(&self.left).boxed()),
            },
        };
        let read = ready!(reading.as_mut().poll(context));
        self.reading = None;
        Poll::Ready(read)
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let read = ready!(self.poll_read(context));
        Poll::Ready(Some(match read {
            Ok(bytes) => {
                self.left.start += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                self.left.start = self.left.end;
                Err(BodyError::Blob(format!("the cache's disk: {error}")))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}
