//! Tracks whether a connection is busy, since when it is idle, and since when its client has taken no bytes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::send_buffer::SendBuffer;
use gateway_http::{Body, BodyError, PIECE_MAX, piece_limited};
use limits::memory::Reservation;

/// The requests under way on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The number of requests so far. Each request gets the next number.
    begun: u64,
    /// The requests under way. The value is the time since which the client has had the last piece of the answer but
    /// has not made room for another. HTTP/2's flow control causes that wait, not TCP's.
    under_way: HashMap<u64, Option<Instant>>,
    idle_since: Instant,
    /// Whether a part of the next request's head has arrived.
    has_head: bool,
    /// Measures the bytes of the answers in memory, if that is measured.
    buffer: Option<SendBuffer>,
    /// The reservation for what HTTP/2 may buffer of all request bodies. It exists while there are such bodies.
    window: Weak<Reservation>,
}

/// The memory that a request holds until its end.
#[derive(Debug)]
pub(super) struct Held {
    request: Arc<Reservation>,
    _window: Option<Arc<Reservation>>,
}

impl Held {
    /// `request` is the request's own memory. `window` is the connection's window, if the request brings a body over
    /// HTTP/2.
    pub(super) fn new(request: Reservation, window: Option<Arc<Reservation>>) -> Self {
        Self { request: Arc::new(request), _window: window }
    }

    /// The request's own reservation. A task that outlives the answer must keep it.
    pub(super) fn request(&self) -> Arc<Reservation> {
        Arc::clone(&self.request)
    }
}

/// Tells that the client takes no bytes of some answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stalled {
    pub(super) since: Instant,
    /// Whether this is so for every answer under way.
    pub(super) all: bool,
}

/// One request under way, until its answer's body has ended or is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Activity,
    number: u64,
    buffer: Option<SendBuffer>,
    held: Option<Held>,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (under_way, idle_since) = (HashMap::new(), Instant::now());
        let state =
            State { begun: 0, under_way, idle_since, has_head: false, buffer: None, window: Weak::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Sets the buffer that measures the answers in memory from now on.
    pub(super) fn buffer(&self, buffer: SendBuffer) {
        self.state().buffer = Some(buffer);
    }

    /// The reservation for what HTTP/2 may buffer of request bodies. All bodies under way share it. If there is none
    /// yet, `reserve` makes it.
    pub(super) fn window(&self, reserve: impl FnOnce() -> Option<Reservation>) -> Option<Arc<Reservation>> {
        let mut state = self.state();
        if let Some(window) = state.window.upgrade() {
            return Some(window);
        }
        let window = Arc::new(reserve()?);
        state.window = Arc::downgrade(&window);
        Some(window)
    }

    pub(crate) fn begin(&self) -> Busy {
        let mut state = self.state();
        state.begun += 1;
        state.has_head = false;
        let number = state.begun;
        state.under_way.insert(number, None);
        Busy { activity: self.clone(), number, buffer: state.buffer.clone(), held: None }
    }

    /// The number of requests that the connection has had.
    pub(super) fn begun(&self) -> u64 {
        self.state().begun
    }

    /// Records that a part of the next request's head has arrived.
    pub(super) fn head_begins(&self) {
        self.state().has_head = true;
    }

    /// Whether a part of the next request's head has arrived.
    pub(super) fn has_head(&self) -> bool {
        self.state().has_head
    }

    /// Whether the connection has had any request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun() > 0
    }

    /// The time since which no request is under way. `None` while one is under way.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        state.under_way.is_empty().then_some(state.idle_since)
    }

    /// The time since which the connection can be cut without loss. `None` while a request is under way, and while
    /// bytes of an answer are still in memory: HTTP drops a body as soon as it has the last piece.
    pub(super) fn spare_since(&self) -> Option<Instant> {
        let buffer = self.state().buffer.clone();
        self.idle_since().filter(|_| buffer.is_none_or(|buffer| buffer.is_empty()))
    }

    /// The answers of which the client takes no bytes, if there are any.
    pub(super) fn stalled(&self) -> Option<Stalled> {
        let state = self.state();
        let all = state.under_way.values().all(Option::is_some);
        let with_client = state.under_way.values().flatten();
        // If all answers are stalled, the stall began with the last of them.
        let since = if all { with_client.max() } else { with_client.min() };
        since.map(|since| Stalled { since: *since, all })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(buffer) = &self.buffer {
            buffer.forget(self.number);
        }
        let mut state = self.activity.state();
        state.under_way.remove(&self.number);
        state.idle_since = Instant::now();
    }
}

impl Busy {
    /// Holds this memory until all bytes of the answer have left memory.
    pub(super) fn holding(mut self, held: Held) -> Self {
        self.held = Some(held);
        self
    }

    /// Keeps the request under way until the body of the answer ends.
    pub(crate) fn until_sent(self, response: Response<Body>) -> Response<Body> {
        // Until the body is polled, the gateway waits for the client: HTTP/2 polls a body only when there is a window.
        self.set_with_client(Some(Instant::now()));
        response.map(|body| Body::new(BusyBody { body, busy: self }))
    }

    fn set_with_client(&self, since: Option<Instant>) {
        if let Some(with_client) = self.activity.state().under_way.get_mut(&self.number) {
            *with_client = since;
        }
    }
}

struct BusyBody {
    body: Body,
    busy: Busy,
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Until the buffer has room, the gateway waits for the client.
        let piece = match &self.busy.buffer {
            Some(buffer) => ready!(buffer.poll_piece(self.busy.number, context)),
            None => PIECE_MAX,
        };
        let polled = piece_limited(piece, || Pin::new(&mut self.body).poll_frame(context));
        // If the body itself makes the client wait, the client is not stalled.
        let with_client = matches!(polled, Poll::Ready(Some(Ok(_))));
        self.busy.set_with_client(with_client.then(Instant::now));
        let (Some(buffer), Some(held)) = (&self.busy.buffer, &self.busy.held) else { return polled };
        let gave =
            |frame: Frame<Bytes>| frame.map_data(|bytes| buffer.gave(bytes, Arc::clone(&held.request)));
        polled.map(|frame| frame.map(|frame| frame.map(gave)))
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
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::super::send_buffer::ClientSocket;
    use super::*;
    use limits::memory::{Memory, Use};

    /// The activity of a connection, its socket, and a client that reads at most one byte.
    fn with_buffer() -> (Activity, ClientSocket<DuplexStream>, DuplexStream) {
        let nothing = Memory::new(1 << 20).reserve(Use::Answers, None, 0).expect("nothing is always had");
        let buffer = SendBuffer::new(nothing);
        buffer.multiplexed();
        let (ours, theirs) = tokio::io::duplex(1);
        let activity = Activity::new();
        activity.buffer(buffer.clone());
        (activity, ClientSocket::new(ours, buffer), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn busy_until_the_body_is_gone() {
        let activity = Activity::new();
        let start = Instant::now();
        assert_eq!(activity.idle_since(), Some(start));
        let response = activity.begin().until_sent(Response::new(Body::empty()));
        assert_eq!(activity.idle_since(), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(response);
        assert_eq!(activity.idle_since(), Some(start + Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn bodies_of_a_connection_share_one_window() {
        let activity = Activity::new();
        let memory = Memory::new(1000);
        let window = || memory.reserve(Use::Windows, None, 600);
        let first = activity.window(window).expect("there is room");
        let second = activity.window(window).expect("it is the same");
        drop(first);
        assert_eq!(memory.status().reserved[Use::Windows as usize], 600);
        drop(second);
        assert_eq!(memory.status().reserved[Use::Windows as usize], 0);
    }

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    /// This holds for any number of requests that a client begins and resets while it takes no bytes.
    #[tokio::test]
    async fn a_body_that_is_gone_does_not_wait() {
        let (activity, mut socket, _client) = with_buffer();
        assert!(socket.write_all(b"more than a byte").now_or_never().is_none());
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        for _ in 0..2 {
            let response = activity.begin().until_sent(Response::new(Body::full("piece")));
            let mut body = std::pin::pin!(response.into_body());
            for _ in 0..2 {
                assert!(body.as_mut().poll_frame(&mut Context::from_waker(&waker)).is_pending());
            }
            assert_eq!(Arc::strong_count(&task), 3, "it waits, once");
        }
        assert_eq!(Arc::strong_count(&task), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_spare_while_an_answer_is_still_here() {
        let (activity, mut socket, mut client) = with_buffer();
        let since = Instant::now();
        assert_eq!(activity.spare_since(), Some(since));
        let nothing = || Memory::new(1000).reserve(Use::Requests, None, 0).expect("nothing is always had");
        let busy = activity.begin().holding(Held::new(nothing(), None));
        let mut body = busy.until_sent(Response::new(Body::full("ab"))).into_body();
        let frame = body.frame().await.expect("a piece").expect("no error");
        let last = frame.into_data().expect("data");
        assert!(body.frame().await.is_none());
        drop(body);
        assert!(activity.idle_since().is_some());
        assert_eq!(activity.spare_since(), None, "the last piece is with HTTP");
        let (mut written, mut sent) = (last.to_vec(), [0; 2]);
        drop(last);
        assert!(socket.write_all_buf(&mut written.as_slice()).now_or_never().is_none());
        assert_eq!(activity.spare_since(), None, "the last byte is with TLS");
        written.drain(..1);
        client.read_exact(&mut sent[..1]).await.expect("a byte");
        socket.write_all(&written).await.expect("there is room");
        socket.flush().await.expect("nothing fails");
        assert_eq!(activity.spare_since(), Some(since));
        client.read_exact(&mut sent[1..]).await.expect("a byte");
        assert_eq!(&sent, b"ab");
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_stays_with_the_client_is_a_stall() {
        let activity = Activity::new();
        let busy = activity.begin();
        assert_eq!(activity.stalled(), None);
        let response = busy.until_sent(Response::new(Body::full("piece")));
        let since = Instant::now();
        assert_eq!(activity.stalled(), Some(Stalled { since, all: true }));
        let other = activity.begin();
        assert_eq!(activity.stalled(), Some(Stalled { since, all: false }));
        drop(other);
        let mut body = response.into_body();
        body.frame().await.expect("a piece").expect("no error");
        assert_eq!(activity.stalled(), Some(Stalled { since: Instant::now(), all: true }));
        assert!(body.frame().await.is_none());
        assert_eq!(activity.stalled(), None);
    }
}
