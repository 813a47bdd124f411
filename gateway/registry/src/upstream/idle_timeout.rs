//! An idle timeout between two pieces of an answer's body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::reclaimable::Unfinished;
use gateway_http::BodyError;
use limits::pool::Slot;

pin_project! {
    /// A body that ends with an error if no byte comes for too long.
    pub struct IdleTimeout<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Sleep,
        // Whether `sleep` runs. It runs only while the body is waited for, and not while the reader does not read.
        waiting: bool,
        bound: Duration,
        what: fn(String) -> BodyError,
        // Dropped together with the body.
        held: Option<Held>,
    }
}

impl<B> std::fmt::Debug for IdleTimeout<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdleTimeout").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl<B: http_body::Body> IdleTimeout<B> {
    /// Wraps `body`. If no byte arrives for `bound`, or `body` breaks, it ends with an error made by `what`.
    pub fn new(body: B, bound: Duration, what: fn(String) -> BodyError) -> Self {
        Self { body, sleep: tokio::time::sleep(bound), waiting: false, bound, what, held: None }
    }

    /// Keeps the slot of the connection, and the rest of the request, until the body is dropped.
    pub(super) fn holding(self, connection: Slot, unfinished: Option<Unfinished>) -> Self {
        Self { held: Some(Held { _unfinished: unfinished, _connection: connection }), ..self }
    }
}

/// What is in use while the body is read.
struct Held {
    // Dropped first: the connection must be closed before another request gets its slot.
    _unfinished: Option<Unfinished>,
    _connection: Slot,
}

impl<B> http_body::Body for IdleTimeout<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        let Poll::Ready(item) = this.body.poll_frame(context) else {
            let mut sleep = this.sleep;
            if !std::mem::replace(this.waiting, true) {
                sleep.as_mut().reset(Instant::now() + *this.bound);
            }
            std::task::ready!(sleep.poll(context));
            return Poll::Ready(Some(Err((this.what)(format!("no byte for {} s", this.bound.as_secs())))));
        };
        *this.waiting = false;
        Poll::Ready(item.map(|item| item.map_err(|error| (this.what)(error.to_string()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
