//! A client's request body: how long it may take, and what becomes of a body that nobody wants.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::server::{Inbox, Reader};
use config::{Limits, Timeouts};
use gateway_http::BodyError;

/// What is still read of a body after its request was refused: a client that sends all before it reads gets the
/// answer then, which a connection that is closed with unread bytes would destroy (RFC 9112 section 9.6).
const UNWANTED_BYTES: u64 = 64 * 1024 * 1024;

/// For how long.
const UNWANTED_TIME: Duration = Duration::from_secs(30);

/// Bytes that came so far.
pub(crate) type Received = Arc<AtomicU64>;

/// A request body that is ended where its client is too slow.
pub(crate) struct RequestBody {
    /// Absent once it is at its end.
    body: Option<Unread>,
    pace: Pace,
    sleep: Pin<Box<Sleep>>,
    /// For the whole.
    deadline: Instant,
    received: Received,
    /// Over HTTP/1.1, where what nobody wanted is read off the connection. HTTP/2 resets the stream, which
    /// leaves the answer whole (RFC 9113 section 8.1).
    http1: bool,
    /// Whether its client waits for 100 (Continue), and has sent nothing.
    withheld: bool,
}

/// What is left of a body, and whom to tell what was taken of it.
struct Unread {
    body: Incoming,
    reader: Reader,
}

impl Unread {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && frame.data_ref().is_some_and(|data| !data.is_empty())
        {
            self.reader.took();
        }
        polled
    }
}

/// How long a client may keep us waiting: `most` in a row, and each byte that comes gives back what it takes at
/// the least rate.
#[derive(Debug)]
struct Pace {
    left: Duration,
    most: Duration,
    /// Bytes a second.
    rate: u64,
    since: Option<Instant>,
}

impl Pace {
    fn new(most: Duration, rate: u64) -> Self {
        Self { left: most, most, rate, since: None }
    }

    /// It is waited for from now on, if it was not; until then.
    fn waits(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// So many bytes came.
    fn came(&mut self, now: Instant, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now - since);
        }
        let earned = Duration::from_secs_f64(bytes as f64 / self.rate.max(1) as f64);
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

impl RequestBody {
    /// The body of a request.
    pub(crate) fn new(
        request: Request<Incoming>,
        inbox: &Inbox,
        limits: &Limits,
        timeouts: &Timeouts,
    ) -> Request<Self> {
        let http1 = request.version() < Version::HTTP_2;
        let withheld = request.headers().contains_key(EXPECT);
        let now = Instant::now();
        request.map(|body| Self {
            body: (!body.is_end_stream()).then(|| Unread { body, reader: inbox.body() }),
            pace: Pace::new(timeouts.client_stall, limits.request_rate.as_u64()),
            sleep: Box::pin(tokio::time::sleep_until(now)),
            deadline: now + timeouts.request_body,
            received: Received::default(),
            http1,
            withheld,
        })
    }

    /// Bytes that came so far, for whoever tells of it.
    pub(crate) fn received(&self) -> Received {
        Arc::clone(&self.received)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // hyper sends 100 (Continue) by this.
        this.withheld = false;
        let polled = body.poll_frame(context);
        let now = Instant::now();
        let Poll::Ready(item) = polled else {
            let until = this.pace.waits(now).min(this.deadline);
            if this.sleep.deadline() != until {
                this.sleep.as_mut().reset(until);
            }
            ready!(this.sleep.as_mut().poll(context));
            let why = match until == this.deadline {
                true => "the body took longer than timeouts.request_body",
                false => "the body came slower than limits.request_rate",
            };
            return Poll::Ready(Some(Err(BodyError::Slow(why))));
        };
        match item {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.pace.came(now, bytes);
                this.received.fetch_add(bytes, Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.body = None;
                Poll::Ready(Some(Err(BodyError::Client(error.to_string()))))
            }
            None => {
                let whole = this.http1 || body.body.is_end_stream();
                this.body = None;
                // hyper ends a body in the same way if its client resets the stream with NO_ERROR
                // (`body/incoming.rs:poll_frame`). Taken for the end, such a request would go on without the bytes
                // that its Content-Length promises, and the registry would read the next request on that connection
                // as those bytes.
                Poll::Ready((!whole).then(|| Err(BodyError::Client("the stream was reset".to_owned()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|unread| unread.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |unread| unread.body.size_hint())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let sent = self.http1 && !self.withheld;
        let rest = self.body.take().filter(|unread| sent && !unread.body.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(UNWANTED_TIME, read_off(rest)));
        }
    }
}

/// Reads what nobody wants.
async fn read_off(mut rest: Unread) {
    let mut left = UNWANTED_BYTES;
    while let Some(Ok(frame)) = poll_fn(|context| rest.poll_frame(context)).await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Duration = Duration::from_secs(60);
    const RATE: u64 = 1024;

    #[tokio::test(start_paused = true)]
    async fn a_trickle_runs_out_of_patience() {
        let mut pace = Pace::new(MOST, RATE);
        let start = Instant::now();
        let mut now = start;
        // A byte each 20 s.
        while pace.waits(now) > now + Duration::from_secs(20) {
            now += Duration::from_secs(20);
            pace.came(now, 1);
        }
        assert!(pace.waits(now) < start + MOST + Duration::from_secs(1));
    }

    proptest! {
        /// Whoever keeps to the least rate, in whatever pieces and pauses below the bound, is never ended.
        #[test]
        fn whoever_keeps_to_the_rate_is_borne_with(pauses in prop::collection::vec(0..50_000u64, 1..200)) {
            let mut pace = Pace::new(MOST, RATE);
            let mut now = Instant::now();
            for pause in pauses {
                let pause = Duration::from_millis(pause);
                prop_assert!(pace.waits(now) > now + pause);
                now += pause;
                pace.came(now, (pause.as_secs_f64() * RATE as f64).ceil() as u64);
            }
        }

        /// Whoever is below the rate by half is ended within twice the bound, however it spreads its bytes.
        #[test]
        fn whoever_is_slower_is_not(pieces in prop::collection::vec(1..5000u64, 100..101)) {
            let mut pace = Pace::new(MOST, RATE);
            let start = Instant::now();
            let mut now = start;
            for piece in pieces {
                let pause = Duration::from_secs_f64(2.0 * piece as f64 / RATE as f64);
                if pace.waits(now) < now + pause {
                    break;
                }
                now += pause;
                pace.came(now, piece);
            }
            prop_assert!(now < start + 2 * MOST + Duration::from_secs(10));
        }
    }
}
