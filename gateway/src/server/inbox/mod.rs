//! Counts what the client of a connection has sent, and how much of it is still in memory.

mod frames;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use self::frames::Frames;
use limits::memory::{CONNECTION, Reservation};

/// [`CONNECTION`] includes this many bytes for heads.
const INCLUDED: u64 = 16 * 1024;

/// Beyond [`INCLUDED`], the connection's reservation grows and shrinks in steps of this many bytes.
const STEP: u64 = 32 * 1024;

/// If the heads of an HTTP/2 connection may keep more bytes than this, the client is asked to open a new connection.
/// That is after about a thousand requests, or a few hundred if each of them brings its own token, because a head
/// counts twice.
const HEADS: u64 = 512 * 1024;

/// If the heads may keep more bytes than this, the connection is cut. There is a margin because a client that was asked
/// to open a new connection may have a hundred requests on their way.
const HEADS_MAX: u64 = 4 * HEADS;

/// If an HTTP/2 client sends this many bytes more than the budget has room for, the connection is cut. By then the
/// client has been asked to open a new one.
const OVERDRAFT: u64 = 64 * 1024;

/// The most bytes that HTTP/1.1 keeps before a handler asks for them: its read buffer, twice while it grows.
const HTTP1_MAX: u64 = 128 * 1024;

/// The state that a connection's stream and the bodies of its requests share.
#[derive(Debug, Clone)]
pub(crate) struct Inbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    renewal: Notify,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    /// Bodies that are being read, or will be.
    bodies: u64,
    /// Whether the client was asked to open a new connection.
    asked: bool,
    /// Whether the budget had no room and the refusal was counted.
    refused: bool,
    /// The reservation of the connection.
    reservation: Reservation,
}

#[derive(Debug)]
enum Protocol {
    /// Bytes since the last request began. HTTP/1.1 keeps no bytes of a request that has ended.
    Http1(u64),
    Http2(Frames),
}

impl Protocol {
    fn kept(&self) -> u64 {
        match self {
            Self::Http1(bytes) => (*bytes).min(HTTP1_MAX),
            Self::Http2(frames) => frames.kept(),
        }
    }
}

/// Why a connection is cut.
#[derive(Debug, thiserror::Error)]
enum Overrun {
    #[error("limits.memory has no room for what the client sends")]
    Memory,
    #[error("the client was asked to come with a new connection, and sends heads without end")]
    Heads,
}

impl Inbox {
    /// Makes the inbox of a connection that has reserved [`CONNECTION`].
    pub(super) fn new(reservation: Reservation) -> Self {
        let protocol = Protocol::Http1(0);
        let state = State { protocol, bodies: 0, asked: false, refused: false, reservation };
        Self(Arc::new(Shared { state: Mutex::new(state), renewal: Notify::new() }))
    }

    /// Records that TLS agreed on HTTP/2, with header lists of at most `header_bytes`.
    pub(super) fn multiplexed(&self, header_bytes: u64) {
        self.state().protocol = Protocol::Http2(Frames::new(header_bytes));
    }

    /// Records that the head of a request is complete.
    pub(super) fn request_begins(&self) {
        let mut state = self.state();
        if let Protocol::Http1(bytes) = &mut state.protocol {
            *bytes = 0;
            state.settle();
        }
    }

    /// Records that a request has a body. Dropping the result ends the body.
    pub(crate) fn body(&self) -> Reader {
        self.state().bodies += 1;
        Reader(self.clone())
    }

    /// Waits until the client must open a new connection.
    pub(super) async fn renewal(&self) {
        self.0.renewal.notified().await;
    }

    fn came(&self, bytes: &[u8]) -> Result<(), Overrun> {
        let mut state = self.state();
        let reading = state.bodies > 0;
        match &mut state.protocol {
            // The request that reads the body has reserved its bytes.
            Protocol::Http1(_) if reading => return Ok(()),
            Protocol::Http1(so_far) => *so_far += bytes.len() as u64,
            Protocol::Http2(frames) => frames.came(bytes),
        }
        let settled = state.settle();
        if settled.ask && !std::mem::replace(&mut state.asked, true) {
            self.0.renewal.notify_one();
        }
        settled.cut.map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// What must happen to the connection.
#[derive(Debug, Default)]
struct Settled {
    ask: bool,
    cut: Option<Overrun>,
}

impl State {
    /// Adjusts the reservation to the bytes that are kept.
    fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        let beyond = self.protocol.kept().saturating_sub(INCLUDED);
        let needed = CONNECTION + beyond.next_multiple_of(STEP);
        let held = self.reservation.bytes();
        let overdraft = match &self.protocol {
            Protocol::Http1(_) => 0,
            Protocol::Http2(frames) => {
                // A new connection costs its client only a handshake. Therefore this growth must not take memory that
                // requests need.
                settled.ask =
                    frames.heads() > HEADS || needed > held && !self.reservation.is_spare(needed - held);
                settled.cut = (frames.heads() > HEADS_MAX).then_some(Overrun::Heads);
                OVERDRAFT
            }
        };
        if needed == held || self.reservation.resize(needed) {
            return settled;
        }
        if beyond > held.saturating_sub(CONNECTION) + overdraft {
            if !std::mem::replace(&mut self.refused, true) {
                self.reservation.needs(needed);
            }
            settled.cut = Some(Overrun::Memory);
        }
        settled
    }
}

/// The handler that reads the body of a request.
#[derive(Debug)]
pub(crate) struct Reader(Inbox);

impl Reader {
    /// Records that the handler took a piece.
    pub(crate) fn took(&self) {
        let mut state = self.0.state();
        if let Protocol::Http2(frames) = &mut state.protocol {
            frames.handed_on();
            state.settle();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.bodies -= 1;
        if state.bodies == 0
            && let Protocol::Http2(frames) = &mut state.protocol
        {
            frames.no_bodies();
            state.settle();
        }
    }
}

/// A client's stream above TLS. If the client sends more than may be kept, reading ends with an error.
pub(super) struct Counted<S> {
    stream: S,
    inbox: Inbox,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, inbox: Inbox) -> Self {
        Self { stream, inbox }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = &read
            && let Err(overrun) = self.inbox.came(&buffer.filled()[before..])
        {
            return Poll::Ready(Err(io::Error::other(overrun)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
