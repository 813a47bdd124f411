//! A request body on its way to the registry: it comes back if nobody read it, and is taken back where the
//! registry has answered before its end: at once, or when the answer was read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use gateway_http::{Body, BodyError};

/// The lender's side.
#[derive(Clone)]
pub(super) struct Lender(Arc<Mutex<State>>);

/// The borrower's side: the body itself.
pub(super) struct Lent(Arc<Mutex<State>>);

struct State {
    /// Absent once it was taken back.
    body: Option<Body>,
    begun: bool,
    /// Whether the borrower is gone.
    returned: bool,
    /// Whether what was taken back is not waited for any more.
    over: bool,
    waker: Option<Waker>,
}

/// Kept for as long as the answer to an unfinished request is read. When it is dropped, the rest of the request is
/// taken back, and the connection ends: the next request could not come before that rest.
pub(super) struct Unfinished(Arc<Mutex<State>>);

impl Lent {
    pub(super) fn new(body: Body) -> (Self, Lender) {
        let state = State { body: Some(body), begun: false, returned: false, over: false, waker: None };
        let state = Arc::new(Mutex::new(state));
        (Self(Arc::clone(&state)), Lender(state))
    }
}

impl Lender {
    /// The body, if not a byte of it was asked for and its borrower is gone.
    pub(super) fn returned(&self) -> Option<Body> {
        let mut state = lock(&self.0);
        if state.returned { state.body.take() } else { None }
    }

    /// A guard where the body is not at its end.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let state = lock(&self.0);
        state.body.as_ref().filter(|body| !http_body::Body::is_end_stream(*body))?;
        Some(Unfinished(Arc::clone(&self.0)))
    }
}

impl Unfinished {
    /// Takes the body back now, and leaves its borrower without a word until the guard is dropped.
    pub(super) fn take_back(&self) {
        let taken = lock(&self.0).body.take();
        // Not under the lock: what its client still sends is read off from here on.
        drop(taken);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        if state.body.as_ref().is_some_and(http_body::Body::is_end_stream) {
            // It came to its end meanwhile.
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

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.returned = !state.begun;
        let read = if state.begun { state.body.take() } else { None };
        drop(state);
        drop(read);
    }
}

impl http_body::Body for Lent {
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
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{poll, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn unread_it_comes_back_whole_and_begun_never() {
        let (lent, lender) = Lent::new(Body::full("layer"));
        assert!(lender.returned().is_none(), "it is still out");
        drop(lent);
        let body = lender.returned().expect("it is back");
        let (mut lent, lender) = Lent::new(body);
        assert_eq!(
            lent.frame().await.expect("a frame").expect("no error").into_data().ok().as_deref(),
            Some(&b"layer"[..])
        );
        drop(lent);
        assert!(lender.returned().is_none());
    }

    #[tokio::test]
    async fn taken_back_it_is_silent_until_the_answer_was_read() {
        let (mut lent, lender) = Lent::new(Body::full("layer"));
        let unfinished = lender.unfinished().expect("not at its end");
        unfinished.take_back();
        let mut frame = Box::pin(lent.frame());
        assert!(poll!(&mut frame).is_pending());
        drop(unfinished);
        assert!(frame.await.expect("an end").is_err());
        assert!(lender.unfinished().is_none());
    }

    #[tokio::test]
    async fn unfinished_it_goes_on_until_the_answer_was_read() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let pieces = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let (mut lent, lender) = Lent::new(Body::stream(pieces));
        let unfinished = lender.unfinished().expect("not at its end");
        sender.send(Ok(Bytes::from_static(b"more"))).expect("it is read");
        assert!(lent.frame().await.expect("a frame").is_ok());
        let mut frame = Box::pin(lent.frame());
        assert!(poll!(&mut frame).is_pending());
        drop(unfinished);
        assert!(sender.is_closed(), "the client's part is gone");
        assert!(frame.await.expect("an end").is_err());
    }

    #[tokio::test]
    async fn a_body_that_came_to_its_end_meanwhile_stays() {
        let (mut lent, lender) = Lent::new(Body::full("layer"));
        let unfinished = lender.unfinished().expect("not at its end");
        assert!(lent.frame().await.expect("a frame").is_ok());
        drop(unfinished);
        assert!(lent.frame().await.is_none());
        assert!(Lent::new(Body::empty()).1.unfinished().is_none());
    }
}
