//! Reports how much of a request body was sent, to the code that waits for the answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

use gateway_http::BodyError;

/// How much of a body was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// This many bytes were sent so far.
    Sending(u64),
    /// The last byte was sent.
    Sent,
    /// The client has left, or sent something malformed.
    Broken,
    /// The client sends too slowly.
    Slow(&'static str),
}

/// A request body that reports every piece.
pub(super) struct Reporting<B> {
    body: B,
    size: Option<u64>,
    passed: u64,
    progress: watch::Sender<Progress>,
}

impl<B: http_body::Body> Reporting<B> {
    pub(super) fn new(body: B) -> (Self, watch::Receiver<Progress>) {
        let start = if body.is_end_stream() { Progress::Sent } else { Progress::Sending(0) };
        let (progress, watching) = watch::channel(start);
        let size = body.size_hint().exact();
        (Self { body, size, passed: 0, progress }, watching)
    }
}

impl<B: http_body::Body<Data = Bytes, Error = BodyError> + Unpin> http_body::Body for Reporting<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let item = ready!(Pin::new(&mut self.body).poll_frame(context));
        let progress = match &item {
            Some(Ok(frame)) => {
                self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
                // Once hyper has the promised bytes, it does not poll the body again. Its end would then not be
                // noticed.
                let ended = self.body.is_end_stream() || self.size == Some(self.passed);
                if ended { Progress::Sent } else { Progress::Sending(self.passed) }
            }
            Some(Err(BodyError::Slow(why))) => Progress::Slow(why),
            Some(Err(_)) => Progress::Broken,
            None => Progress::Sent,
        };
        self.progress.send_replace(progress);
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
