//! Reads along a small body on its way to a client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gateway_http::{Body, BodyError};
use http::Response;
use http_body::{Frame, SizeHint};

/// Reads along a body of `size` bytes, and gives them to `end` before the client has the last of them. If the body breaks
/// off or has another length, `end` is dropped. It must hold the memory that is reserved for the bytes.
pub(crate) fn read_along(
    response: Response<Body>,
    size: usize,
    end: impl FnOnce(Vec<u8>) + Send + 'static,
) -> Response<Body> {
    let so_far = SoFar { size, bytes: Vec::with_capacity(size), end: Box::new(end) };
    response.map(|body| Body::new(ReadAlong { body, so_far: Some(so_far) }))
}

/// What was read along so far.
struct SoFar {
    size: usize,
    bytes: Vec<u8>,
    end: Box<dyn FnOnce(Vec<u8>) + Send>,
}

/// A body that is read along.
struct ReadAlong {
    body: Body,
    /// `None` once the body was read, or turned out to be longer than it said.
    so_far: Option<SoFar>,
}

impl fmt::Debug for ReadAlong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAlong").finish_non_exhaustive()
    }
}

impl http_body::Body for ReadAlong {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let item = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(Ok(frame)) = &item else {
            // It broke off, or ended before its length.
            self.so_far = None;
            return Poll::Ready(item);
        };
        if let Some(mut so_far) = self.so_far.take()
            && let Some(data) = frame.data_ref()
            && so_far.bytes.len() + data.len() <= so_far.size
        {
            so_far.bytes.extend_from_slice(data);
            // Before the client has the last byte, because it may use at once what is learned.
            match so_far.bytes.len() == so_far.size {
                true => (so_far.end)(so_far.bytes),
                false => self.so_far = Some(so_far),
            }
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
