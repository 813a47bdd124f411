//! A copy of a body in passing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use crate::http::{Body, BodyError};

/// What has been read along; complete once the body has ended.
#[derive(Clone)]
pub(crate) struct Copy(Arc<Mutex<Option<BytesMut>>>);

impl Copy {
    /// The bytes, unless there were more than allowed.
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.lock().take().map(BytesMut::freeze)
    }

    fn lock(&self) -> MutexGuard<'_, Option<BytesMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same body, and a copy of its first `limit` bytes or nothing if there are more; `size` of them are
/// promised.
pub(crate) fn body(body: Body, limit: u64, size: u64) -> (Body, Copy) {
    let size = usize::try_from(size).unwrap_or_default();
    let copy = Copy(Arc::new(Mutex::new(Some(BytesMut::with_capacity(size)))));
    (Body::new(ReadAlong { body, copy: copy.clone(), limit }), copy)
}

struct ReadAlong {
    body: Body,
    copy: Copy,
    limit: u64,
}

impl http_body::Body for ReadAlong {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let item = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &item
            && let Some(data) = frame.data_ref()
        {
            let mut copy = self.copy.lock();
            let fits = copy.as_ref().is_some_and(|copied| (copied.len() + data.len()) as u64 <= self.limit);
            match copy.as_mut().filter(|_| fits) {
                Some(copied) => copied.extend_from_slice(data),
                None => *copy = None,
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn copied(limit: u64) -> Option<Bytes> {
        let (body, copy) = body(Body::full("manifest"), limit, 8);
        let passed = body.collect().await.expect("no error").to_bytes();
        assert_eq!(passed, "manifest");
        copy.take()
    }

    #[tokio::test]
    async fn all_or_nothing() {
        assert_eq!(copied(8).await.as_deref(), Some(&b"manifest"[..]));
        assert_eq!(copied(7).await, None);
    }
}
