//! The body of a client's request: how long it may take, and what happens to a body that is not needed.

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

/// Bytes of a refused request's body that are still read. A client that sends the whole body before it reads
/// then gets the answer. If the connection were closed with unread bytes, the answer would be lost (RFC 9112
/// section 9.6).
const UNWANTED_BYTES: u64 = 64 * 1024 * 1024;

/// The time for reading such a body.
const UNWANTED_TIME: Duration = Duration::from_secs(30);

/// The number of bytes that were received so far.
pub(crate) type ReceivedBytes = Arc<AtomicU64>;

/// A request body that ends in an error if its client is too slow.
pub(crate) struct RequestBody {
    /// `None` after the end of the body.
    body: Option<UnreadBody>,
    stall: StallBudget,
    sleep: Pin<Box<Sleep>>,
    /// The deadline for the whole body.
    deadline: Instant,
    received: ReceivedBytes,
    /// Whether the request came over HTTP/1.1. Its unread body must then be read off the connection. HTTP/2
    /// resets the stream instead, which does not damage the answer (RFC 9113 section 8.1).
    http1: bool,
    /// Whether the client waits for 100 (Continue) and has sent nothing.
    withheld: bool,
}

/// The rest of a body, and the reader that is told about each frame that was taken.
struct UnreadBody {
    body: Incoming,
    reader: Reader,
}

impl UnreadBody {
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

/// How long a client may keep the gateway waiting. It may use up `most`, and each byte that it sends gives
/// back the time that a byte takes at the least rate.
#[derive(Debug)]
struct StallBudget {
    left: Duration,
    most: Duration,
    /// The least rate in bytes a second.
    rate: u64,
    since: Option<Instant>,
}

impl StallBudget {
    fn new(most: Duration, rate: u64) -> Self {
        Self { left: most, most, rate, since: None }
    }

    /// Starts to wait for the client, if it does not wait yet. Returns when the time is used up.
    fn wait_from(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// Records that this many bytes arrived.
    fn arrived(&mut self, now: Instant, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now - since);
        }
        let earned = Duration::from_secs_f64(bytes as f64 / self.rate.max(1) as f64);
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

impl RequestBody {
    /// Wraps the body of a request.
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
            body: (!body.is_end_stream()).then(|| UnreadBody { body, reader: inbox.body() }),
            stall: StallBudget::new(timeouts.client_stall, limits.request_rate.as_u64()),
            sleep: Box::pin(tokio::time::sleep_until(now)),
            deadline: now + timeouts.request_body,
            received: ReceivedBytes::default(),
            http1,
            withheld,
        })
    }

    /// The shared count of received bytes.
    pub(crate) fn received(&self) -> ReceivedBytes {
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
        // hyper sends 100 (Continue) when the body is first polled.
        this.withheld = false;
        let polled = body.poll_frame(context);
        let now = Instant::now();
        let Poll::Ready(item) = polled else {
            let until = this.stall.wait_from(now).min(this.deadline);
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
                this.stall.arrived(now, bytes);
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

/// Reads the rest of a body that is not needed.
async fn read_off(mut rest: UnreadBody) {
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
    async fn a_trickling_client_is_ended() {
        let mut stall = StallBudget::new(MOST, RATE);
        let start = Instant::now();
        let mut now = start;
        // The client sends one byte every 20 s.
        while stall.wait_from(now) > now + Duration::from_secs(20) {
            now += Duration::from_secs(20);
            stall.arrived(now, 1);
        }
        assert!(stall.wait_from(now) < start + MOST + Duration::from_secs(1));
    }

    proptest! {
        /// A client that keeps to the least rate is never ended, whatever the size of its pieces and its
        /// pauses below the bound.
        #[test]
        fn a_client_at_the_least_rate_is_never_ended(pauses in prop::collection::vec(0..50_000u64, 1..200)) {
            let mut stall = StallBudget::new(MOST, RATE);
            let mut now = Instant::now();
            for pause in pauses {
                let pause = Duration::from_millis(pause);
                prop_assert!(stall.wait_from(now) > now + pause);
                now += pause;
                stall.arrived(now, (pause.as_secs_f64() * RATE as f64).ceil() as u64);
            }
        }

        /// A client at half the least rate is ended within twice the bound, however it spreads its bytes.
        #[test]
        fn a_slower_client_is_ended(pieces in prop::collection::vec(1..5000u64, 100..101)) {
            let mut stall = StallBudget::new(MOST, RATE);
            let start = Instant::now();
            let mut now = start;
            for piece in pieces {
                let pause = Duration::from_secs_f64(2.0 * piece as f64 / RATE as f64);
                if stall.wait_from(now) < now + pause {
                    break;
                }
                now += pause;
                stall.arrived(now, piece);
            }
            prop_assert!(now < start + 2 * MOST + Duration::from_secs(10));
        }
    }
}
