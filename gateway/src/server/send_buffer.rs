//! What of a connection's answers is in memory: read for its client, and not yet taken by its socket.

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

/// Larger pieces that may be in memory at once.
const PIECES: u64 = 2;

/// Shared by the bodies of a connection's answers and its socket. A body is read only as its client takes
/// what was read before; so a client that takes nothing costs no more than a first piece of each answer.
#[derive(Debug, Clone)]
pub(super) struct SendBuffer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pace: Pace,
    /// HTTP/1.1 sends one answer after the other: what was read for one is what its client takes next.
    /// Of HTTP/2's streams one may be stuck while its client waits for another, so none of them waits for
    /// bytes of the others, unless it is the socket that takes nothing.
    in_order: bool,
    /// Bytes that were read and have not come to TLS.
    held: u64,
    /// Whether TLS holds nothing either.
    flushed: bool,
    /// Since when the socket takes nothing.
    blocked_since: Option<Instant>,
    /// Bodies that wait, by their request's number: never one that is gone.
    waiting: HashMap<u64, Waker>,
    /// For more than the smallest pieces, which the requests' own reservations cover.
    larger: Reservation,
}

/// A piece of an answer, and what it takes of the budget.
struct Piece {
    bytes: Bytes,
    buffer: SendBuffer,
    /// The request's: pieces may be in memory after their answer's body is gone.
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
    /// `larger` is a reservation of nothing, to grow with the client's pace.
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

    /// HTTP/2 was agreed on.
    pub(super) fn multiplexed(&self) {
        self.state().in_order = false;
    }

    /// How large the next piece of the answer to the `request`-th request may be; pending while the client is to
    /// take what it has first.
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

    /// The answer's body is gone: nobody is to be woken, and a waker keeps a whole task in memory.
    pub(super) fn forget(&self, request: u64) {
        let waiting = self.state().waiting.remove(&request);
        // Not while the state is locked.
        drop(waiting);
    }

    /// Whether all that was read is with the client's socket.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.held == 0 && state.flushed
    }

    /// A piece that a body gave. It counts until it is dropped.
    pub(super) fn gave(&self, bytes: Bytes, request: Arc<Reservation>) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        self.state().held += bytes.len() as u64;
        Bytes::from_owner(Piece { bytes, buffer: self.clone(), _request: request })
    }

    /// A piece has come to TLS, or its answer was given up.
    fn released(&self, bytes: usize) {
        let mut state = self.state();
        state.held -= bytes as u64;
        state.wake_all();
    }

    /// The socket took bytes.
    fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.flushed = false;
        let waited = state.blocked_since.take().map(|since| since.elapsed()).unwrap_or_default();
        state.pace.took(bytes, waited);
        state.wake_all();
    }

    /// The socket takes nothing.
    fn blocked(&self) {
        let mut state = self.state();
        state.flushed = false;
        state.blocked_since.get_or_insert_with(Instant::now);
    }

    /// TLS has nothing left to write.
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
    /// The piece that suits the client's pace, or what the budget allows.
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
        // TLS flushes what is below it once it has written all that it had.
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

    /// As if its client took all it gets, for a while.
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

    /// What is left of an answer whose body is gone is still its request's.
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
