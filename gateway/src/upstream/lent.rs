//! A request body that comes back if nobody read it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::{Body, BodyError};

/// Where a body lies that came back.
#[derive(Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Option<Body>>>);

impl Returned {
    /// The body, if not a byte of it was asked for and its borrower is gone.
    pub(super) fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body on its way; dropped before it was first asked for a byte, it comes back.
pub(super) struct Lent {
    body: Body,
    begun: bool,
    returned: Returned,
}

impl Lent {
    pub(super) fn new(body: Body) -> (Self, Returned) {
        let returned = Returned::default();
        (Self { body, begun: false, returned: returned.clone() }, returned)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.begun {
            let body = std::mem::replace(&mut self.body, Body::empty());
            *self.returned.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.begun = true;
        Pin::new(&mut self.body).poll_frame(context)
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
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn unread_it_comes_back_whole_and_begun_never() {
        let (lent, returned) = Lent::new(Body::full("layer"));
        assert!(returned.take().is_none(), "it is still out");
        drop(lent);
        let body = returned.take().expect("it is back");
        let (mut lent, returned) = Lent::new(body);
        assert_eq!(
            lent.frame().await.expect("a frame").expect("no error").into_data().ok().as_deref(),
            Some(&b"layer"[..])
        );
        drop(lent);
        assert!(returned.take().is_none());
    }
}
