//! A bound between two pieces of a body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::lent::Unfinished;
use gateway_http::BodyError;
use limits::pool::Slot;

pin_project! {
    /// A body that ends in an error when it gives no byte for too long.
    pub struct Unstalled<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Sleep,
        // Whether `sleep` counts: only while the body keeps us waiting, never while its reader does.
        waiting: bool,
        bound: Duration,
        what: fn(String) -> BodyError,
        // Dropped when the body is gone.
        held: Option<Held>,
    }
}

impl<B> std::fmt::Debug for Unstalled<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unstalled").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl<B: http_body::Body> Unstalled<B> {
    /// `what` makes the error; a broken `body` uses it too.
    pub fn new(body: B, bound: Duration, what: fn(String) -> BodyError) -> Self {
        Self { body, sleep: tokio::time::sleep(bound), waiting: false, bound, what, held: None }
    }

    /// Keeps what the body came over until it is gone.
    pub(super) fn holding(self, connection: Slot, unfinished: Option<Unfinished>) -> Self {
        Self { held: Some(Held { _unfinished: unfinished, _connection: connection }), ..self }
    }
}

/// What a body came over.
struct Held {
    // First: the connection is over before its slot is another's.
    _unfinished: Option<Unfinished>,
    _connection: Slot,
}

impl<B> http_body::Body for Unstalled<B>
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
