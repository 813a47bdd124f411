//! Measures the bytes of a connection's answers in memory: read for the client, and not yet taken by its socket.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::pace::Pace;
use gateway_http::PIECE_MIN;
use limits::memory::Reservation;

/// How many larger pieces may be in memory at once.
const PIECES: u64 = 2;

/// The bodies of a connection's answers and its socket share this buffer. A body is read only as fast as its client
/// takes the bytes. A client that takes no bytes costs no more than the first piece of each answer.
#[derive(Debug, Clone)]
pub(super) struct SendBuffer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pace: Pace,
    /// HTTP/1.1 sends one answer after the other, so the client takes what was read for an answer before anything else.
    /// An HTTP/2 stream may be stuck while its client waits for another stream. Therefore a stream never waits for the
    /// bytes of other streams. It waits only if the socket takes no bytes.
    in_order: bool,
    /// Bytes that were read and that TLS does not have yet.
    held: u64,
    /// Whether TLS has written everything to the socket.
    flushed: bool,
    /// The time since which the socket takes no bytes.
    blocked_since: Option<Instant>,
    /// The wakers of waiting bodies, by request number. The entry of a body is removed when the body is dropped.
    waiting: HashMap<u64, Waker>,
    /// The reservation for larger pieces. The requests' own reservations cover the smallest ones.
    larger: Reservation,
}

/// A piece of an answer, which counts in the buffer until it is dropped.
struct Piece {
    bytes: Bytes,
    buffer: SendBuffer,
    /// The request's reservation. A piece may stay in memory after the body of its answer is gone.
    _request: Arc<Reservation>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.buffer.released(self.bytes.len());
    }
}

impl SendBuffer {
    /// `larger` is an empty reservation, which grows with the client's pace.
    pub(super) fn new(larger: Reservation) -> Self {
        let state = State {
            pace: Pace::default(),
            in_order: true,
            held: 0,
            flushed: true,
            blocked_since: None,
            waiting: HashMap::new(),
            larger,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Records that TLS agreed on HTTP/2.
    pub(super) fn multiplexed(&self) {
        self.state().in_order = false;
    }

    /// How large the next piece of the answer to the `request`-th request may be. Pending while the client must first
    /// take the bytes that it has.
    pub(super) fn poll_piece(&self, request: u64, context: &Context<'_>) -> Poll<usize> {
        let mut state = self.state();
        let piece = state.affordable();
        let full = state.in_order && state.held > piece as u64 / 2;
        if full || state.blocked_since.is_some() {
            state.waiting.insert(request, context.waker().clone());
            return Poll::Pending;
        }
        let many = !state.in_order && state.held >= piece as u64;
        Poll::Ready(if many { PIECE_MIN } else { piece })
    }

    /// Removes the waker of a body that is gone. A waker would keep a whole task in memory.
    pub(super) fn forget(&self, request: u64) {
        let waiting = self.state().waiting.remove(&request);
        // Dropping the waker may drop its task, so the state must not be locked here.
        drop(waiting);
    }

    /// Whether the client's socket has all bytes that were read.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.held == 0 && state.flushed
    }

    /// Counts a piece that a body gave, until the piece is dropped.
    pub(super) fn gave(&self, bytes: Bytes, request: Arc<Reservation>) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        self.state().held += bytes.len() as u64;
        Bytes::from_owner(Piece { bytes, buffer: self.clone(), _request: request })
    }

    /// Records that TLS has a piece, or that its answer was given up.
    fn released(&self, bytes: usize) {
        let mut state = self.state();
        state.held -= bytes as u64;
        state.wake_all();
    }

    /// Records that the socket took bytes.
    fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.flushed = false;
        let waited = state.blocked_since.take().map(|since| since.elapsed()).unwrap_or_default();
        state.pace.took(bytes, waited);
        state.wake_all();
    }

    /// Records that the socket takes no bytes.
    fn blocked(&self) {
        let mut state = self.state();
        state.flushed = false;
        state.blocked_since.get_or_insert_with(Instant::now);
    }

    /// Records that TLS has no more bytes to write.
    fn flushed(&self) {
        let mut state = self.state();
        state.flushed = true;
        if state.held == 0 {
            state.larger.resize(0);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// The piece size that suits the client's pace. If the budget has no room for it, a smaller one.
    fn affordable(&mut self) -> usize {
        let mut piece = self.pace.piece();
        while piece > PIECE_MIN {
            let needed = piece as u64 * PIECES;
            if self.larger.bytes() >= needed || self.larger.resize(needed) {
                break;
            }
            piece /= 2;
        }
        piece
    }

    fn wake_all(&mut self) {
        self.waiting.drain().for_each(|(_, waker)| waker.wake());
    }
}

/// A client's socket, below TLS.
pub(super) struct ClientSocket<S> {
    stream: S,
    buffer: SendBuffer,
}

impl<S> ClientSocket<S> {
    pub(super) fn new(stream: S, buffer: SendBuffer) -> Self {
        Self { stream, buffer }
    }

    fn seen(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.buffer.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.buffer.blocked(),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.seen(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS flushes the stream below it only after it has written all its bytes.
        self.buffer.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.seen(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use gateway_http::PIECE_MAX;
    use limits::memory::{Memory, Use};

    fn buffer(budget: u64) -> (Memory, SendBuffer) {
        let memory = Memory::new(budget);
        let nothing = memory.reserve(Use::Answers, None, 0).expect("nothing is always had");
        (memory, SendBuffer::new(nothing))
    }

    fn piece(buffer: &SendBuffer) -> Poll<usize> {
        buffer.poll_piece(1, &Context::from_waker(Waker::noop()))
    }

    fn gave(buffer: &SendBuffer, memory: &Memory, bytes: usize) -> Bytes {
        let request = memory.reserve(Use::Requests, None, 0).expect("nothing is always had");
        buffer.gave(vec![0; bytes].into(), Arc::new(request))
    }

    fn larger(memory: &Memory) -> u64 {
        memory.status().reserved[Use::Answers as usize]
    }

    /// Plays a client that takes everything for a while.
    fn quick(buffer: &SendBuffer, memory: &Memory) {
        for _ in 0..1000 {
            let Poll::Ready(bytes) = piece(buffer) else { panic!("all was taken") };
            drop(gave(buffer, memory, bytes));
            buffer.wrote(bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_read_as_its_client_takes_it() {
        let (memory, buffer) = buffer(1 << 30);
        assert_eq!(piece(&buffer), Poll::Ready(PIECE_MIN));
        let first = gave(&buffer, &memory, PIECE_MIN);
        assert!(piece(&buffer).is_pending(), "it is not with TLS yet");
        drop(first);
        buffer.blocked();
        assert!(piece(&buffer).is_pending(), "it is not with the client yet");
        buffer.wrote(PIECE_MIN);
        quick(&buffer, &memory);
        assert_eq!(piece(&buffer), Poll::Ready(PIECE_MAX));
        assert_eq!(larger(&memory), 2 * PIECE_MAX as u64);
        let last = gave(&buffer, &memory, PIECE_MAX);
        buffer.blocked();
        tokio::time::advance(Duration::from_secs(1)).await;
        buffer.wrote(1);
        buffer.flushed();
        assert_eq!(larger(&memory), 2 * PIECE_MAX as u64, "some of it is in memory");
        drop(last);
        buffer.flushed();
        assert_eq!((piece(&buffer), larger(&memory)), (Poll::Ready(PIECE_MIN), 0));
    }

    #[tokio::test]
    async fn a_stream_waits_for_the_socket_alone() {
        let (memory, buffer) = buffer(1 << 30);
        buffer.multiplexed();
        let mut stuck = Vec::new();
        for _ in 0..128 {
            assert_eq!(piece(&buffer), Poll::Ready(PIECE_MIN));
            stuck.push(gave(&buffer, &memory, PIECE_MIN));
        }
        buffer.blocked();
        assert!(piece(&buffer).is_pending());
        buffer.wrote(1);
        assert_eq!(piece(&buffer), Poll::Ready(PIECE_MIN));
    }

    #[tokio::test]
    async fn streams_share_what_is_in_memory_in_large_pieces() {
        let (memory, buffer) = buffer(1 << 30);
        buffer.multiplexed();
        quick(&buffer, &memory);
        let mut stuck = Vec::new();
        for _ in 0..128 {
            let Poll::Ready(bytes) = piece(&buffer) else { panic!("the socket is not blocked") };
            stuck.push(gave(&buffer, &memory, bytes));
        }
        let held: usize = stuck.iter().map(Bytes::len).sum();
        assert!(held <= PIECE_MAX + 128 * PIECE_MIN, "{held}");
    }

    #[tokio::test]
    async fn pieces_stay_small_where_memory_is_short() {
        let (memory, buffer) = buffer(100 * 1024);
        quick(&buffer, &memory);
        assert_eq!(piece(&buffer), Poll::Ready(32 * 1024));
        buffer.flushed();
        assert_eq!(larger(&memory), 0);
    }

    /// If the body of an answer is gone, its last pieces still keep the request's reservation.
    #[tokio::test]
    async fn the_last_pieces_keep_the_requests_reservation() {
        let (memory, buffer) = buffer(1 << 20);
        let request = Arc::new(memory.reserve(Use::Requests, None, 100).expect("there is room"));
        let last = buffer.gave(Bytes::from_static(b"last"), request);
        assert_eq!(memory.status().reserved[Use::Requests as usize], 100);
        drop(last);
        assert_eq!(memory.status().reserved[Use::Requests as usize], 0);
    }
}
