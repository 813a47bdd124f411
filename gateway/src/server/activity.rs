//! Whether a connection is busy, and since when it is not.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::http::{Body, BodyError};

/// Requests under way on one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Instant,
}

/// One request under way, until its answer's body has ended or is dropped.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { requests: 0, idle_since: Instant::now() })))
    }

    pub(super) fn begin(&self) -> Busy {
        self.state().requests += 1;
        Busy(self.clone())
    }

    /// `None` while a request is under way.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.requests == 0).then_some(state.idle_since)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }
}

impl Busy {
    /// Stays with the answer's body.
    pub(super) fn until_sent(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| Body::new(BusyBody { body, _busy: self }))
    }
}

struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn busy_until_the_body_is_gone() {
        let activity = Activity::new();
        let start = Instant::now();
        assert_eq!(activity.idle_since(), Some(start));
        let response = activity.begin().until_sent(Response::new(Body::empty()));
        assert_eq!(activity.idle_since(), None);
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        drop(response);
        assert_eq!(activity.idle_since(), Some(start + std::time::Duration::from_secs(3)));
    }
}
