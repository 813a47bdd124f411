//! A request body that can be reclaimed from hyper.
//!
//! If no connection could be made, the body is reclaimed for the next instance. If the registry answers
//! before the end of the body, the rest is reclaimed: at once if the answer is a refusal, otherwise when the
//! answer was read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};

use gateway_http::{Body, BodyError};

/// The side that can reclaim the body.
#[derive(Clone)]
pub(super) struct Reclaim(Arc<Mutex<State>>);

/// The side that hyper reads: the body itself.
pub(super) struct Reclaimable(Arc<Mutex<State>>);

struct State {
    /// `None` once it was reclaimed.
    body: Option<Body>,
    begun: bool,
    /// Whether hyper dropped its side before it read anything.
    returned: bool,
    /// Whether the body must end with an error instead of waiting.
    over: bool,
    waker: Option<Waker>,
}

/// Kept while the answer to an unfinished request is read. When it is dropped, the rest of the request is
/// reclaimed and the connection is closed, because no other request can follow on it.
pub(super) struct Unfinished(Arc<Mutex<State>>);

impl Reclaimable {
    pub(super) fn new(body: Body) -> (Self, Reclaim) {
        let state = State { body: Some(body), begun: false, returned: false, over: false, waker: None };
        let state = Arc::new(Mutex::new(state));
        (Self(Arc::clone(&state)), Reclaim(state))
    }
}

impl Reclaim {
    /// Returns the body, if hyper dropped its side and had read nothing.
    pub(super) fn returned(&self) -> Option<Body> {
        let mut state = lock(&self.0);
        if state.returned { state.body.take() } else { None }
    }

    /// Returns a guard if the body is not at its end.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let state = lock(&self.0);
        state.body.as_ref().filter(|body| !http_body::Body::is_end_stream(*body))?;
        Some(Unfinished(Arc::clone(&self.0)))
    }
}

impl Unfinished {
    /// Reclaims the body now. The other side waits until the guard is dropped.
    pub(super) fn take_back(&self) {
        let taken = lock(&self.0).body.take();
        // The body must not be dropped under the lock, because the drop reads what the client still sends.
        drop(taken);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        if state.body.as_ref().is_some_and(http_body::Body::is_end_stream) {
            // The body has reached its end.
            return;
        }
        state.over = true;
        let (taken, waker) = (state.body.take(), state.waker.take());
        drop(state);
        drop(taken);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Reclaimable {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.returned = !state.begun;
        let read = if state.begun { state.body.take() } else { None };
        drop(state);
        drop(read);
    }
}

impl http_body::Body for Reclaimable {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = lock(&self.0);
        state.begun = true;
        if let Some(body) = &mut state.body {
            let polled = Pin::new(body).poll_frame(context);
            if polled.is_pending() {
                state.waker = Some(context.waker().clone());
            }
            return polled;
        }
        if state.over {
            let why = "the registry answered before its end".to_owned();
            return Poll::Ready(Some(Err(BodyError::Client(why))));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock()
}

#[cfg(test)]
mod tests {
    use futures_util::{poll, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn only_an_unread_body_can_be_reclaimed_whole() {
        let (lent, reclaim) = Reclaimable::new(Body::full("layer"));
        assert!(reclaim.returned().is_none(), "hyper still has the body");
        drop(lent);
        let body = reclaim.returned().expect("it is back");
        let (mut lent, reclaim) = Reclaimable::new(body);
        assert_eq!(
            lent.frame().await.expect("a frame").expect("no error").into_data().ok().as_deref(),
            Some(&b"layer"[..])
        );
        drop(lent);
        assert!(reclaim.returned().is_none());
    }

    #[tokio::test]
    async fn a_reclaimed_body_is_pending_until_the_answer_was_read() {
        let (mut lent, reclaim) = Reclaimable::new(Body::full("layer"));
        let unfinished = reclaim.unfinished().expect("not at its end");
        unfinished.take_back();
        let mut frame = Box::pin(lent.frame());
        assert!(poll!(&mut frame).is_pending());
        drop(unfinished);
        assert!(frame.await.expect("an end").is_err());
        assert!(reclaim.unfinished().is_none());
    }

    #[tokio::test]
    async fn an_unfinished_body_continues_until_the_answer_was_read() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let pieces = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let (mut lent, reclaim) = Reclaimable::new(Body::stream(pieces));
        let unfinished = reclaim.unfinished().expect("not at its end");
        sender.try_send(Ok(Bytes::from_static(b"more"))).expect("it is read");
        assert!(lent.frame().await.expect("a frame").is_ok());
        let mut frame = Box::pin(lent.frame());
        assert!(poll!(&mut frame).is_pending());
        drop(unfinished);
        assert!(sender.is_closed(), "the client's part is gone");
        assert!(frame.await.expect("an end").is_err());
    }

    #[tokio::test]
    async fn a_body_that_has_ended_meanwhile_is_not_reclaimed() {
        let (mut lent, reclaim) = Reclaimable::new(Body::full("layer"));
        let unfinished = reclaim.unfinished().expect("not at its end");
        assert!(lent.frame().await.expect("a frame").is_ok());
        drop(unfinished);
        assert!(lent.frame().await.is_none());
        assert!(Reclaimable::new(Body::empty()).1.unfinished().is_none());
    }
}
