//! A bound between two pieces of a body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep};

use crate::http::BodyError;

pin_project! {
    /// A body that ends in an error when it gives no byte for too long.
    pub(crate) struct Unstalled<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Sleep,
        // Whether `sleep` counts: only while the body keeps us waiting, never while its reader does.
        waiting: bool,
        bound: Duration,
        what: fn(String) -> BodyError,
        size: Option<u64>,
        passed: u64,
        progress: Option<watch::Sender<Progress>>,
        // Given back when the body is gone.
        held: Option<OwnedSemaphorePermit>,
    }
}

/// How far a request body has got, for whoever waits for the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// This many bytes have gone out so far.
    Sending(u64),
    /// The last byte has gone out.
    Sent,
    /// The body broke: the client is gone, or sends what is no body.
    Broken,
    /// The client sent nothing for too long.
    Stalled,
}

impl<B: http_body::Body> Unstalled<B> {
    /// `what` makes the error; a broken `body` uses it too.
    pub(crate) fn new(body: B, bound: Duration, what: fn(String) -> BodyError) -> Self {
        let size = body.size_hint().exact();
        Self {
            body,
            sleep: tokio::time::sleep(bound),
            waiting: false,
            bound,
            what,
            size,
            passed: 0,
            progress: None,
            held: None,
        }
    }

    /// Keeps a permit until the body is gone.
    pub(crate) fn holding(self, permit: OwnedSemaphorePermit) -> Self {
        Self { held: Some(permit), ..self }
    }

    /// As [`Unstalled::new`], telling `progress` of every piece.
    pub(crate) fn watched(
        body: B,
        bound: Duration,
        what: fn(String) -> BodyError,
        progress: watch::Sender<Progress>,
    ) -> Self {
        if body.is_end_stream() {
            progress.send_replace(Progress::Sent);
        }
        Self { progress: Some(progress), ..Self::new(body, bound, what) }
    }
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
        let mut this = self.project();
        let progress = &*this.progress;
        let tell = |state: Progress| {
            if let Some(sender) = progress {
                sender.send_replace(state);
            }
        };
        let Poll::Ready(item) = this.body.as_mut().poll_frame(context) else {
            if !std::mem::replace(this.waiting, true) {
                this.sleep.as_mut().reset(Instant::now() + *this.bound);
            }
            std::task::ready!(this.sleep.as_mut().poll(context));
            tell(Progress::Stalled);
            return Poll::Ready(Some(Err((this.what)(format!("no byte for {} s", this.bound.as_secs())))));
        };
        *this.waiting = false;
        Poll::Ready(match item {
            Some(Ok(frame)) => {
                *this.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
                // The reader stops asking once it has the promised bytes, so their end is the end.
                let ended = this.body.is_end_stream() || *this.size == Some(*this.passed);
                tell(if ended { Progress::Sent } else { Progress::Sending(*this.passed) });
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                tell(Progress::Broken);
                Some(Err((this.what)(error.to_string())))
            }
            None => {
                tell(Progress::Sent);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
