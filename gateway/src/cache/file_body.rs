//! A part of a file as a body.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::files::{CHUNK, read_blocking, read_cached};
use crate::http::BodyError;

/// Streams a range of a complete blob. Reads from the page cache happen in place; only the disk
/// is waited for on another thread.
pub(crate) struct FileBody {
    file: Arc<File>,
    left: Range<u64>,
    disk: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(crate) fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, left: range, disk: None }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Some(disk) = &mut self.disk {
            let read = ready!(Pin::new(disk).poll(context));
            self.disk = None;
            return Poll::Ready(read.unwrap_or_else(|_| Err(io::Error::other("the reading thread is gone"))));
        }
        let offset = self.left.start;
        // At most CHUNK, so it fits.
        let len = (self.left.end - offset).min(CHUNK as u64) as usize;
        match read_cached(&self.file, offset, len) {
            Ok(None) => {
                let file = Arc::clone(&self.file);
                self.disk = Some(tokio::task::spawn_blocking(move || read_blocking(&file, offset, len)));
                self.poll_read(context)
            }
            Ok(Some(bytes)) => Poll::Ready(Ok(bytes)),
            Err(error) => Poll::Ready(Err(error)),
        }
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
