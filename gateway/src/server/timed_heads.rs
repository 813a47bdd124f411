//! Limits the time that a client takes for the head of an HTTP/1.1 request.
//!
//! hyper has one timer for both the wait for a request and its head. A connection may be idle for longer than a head may
//! take.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;

/// A connection of which a read fails if a head takes too long.
pub(super) struct TimedHeads<S> {
    stream: S,
    activity: Activity,
    /// `None` for HTTP/2, in which heads of several requests interleave with other frames.
    bound: Option<Duration>,
    head: Option<Head>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// A head whose first byte has arrived.
struct Head {
    /// The number of requests before it. A higher number means that the head is complete.
    before: u64,
    deadline: Instant,
}

impl<S> TimedHeads<S> {
    pub(super) fn new(stream: S, activity: Activity, bound: Option<Duration>) -> Self {
        Self { stream, activity, bound, head: None, sleep: None }
    }

    /// Records that bytes arrived. If no request is under way, they belong to a head.
    fn arrived(&mut self, bound: Duration) {
        if self.head.is_none() && self.activity.idle_since().is_some() {
            self.head = Some(Head { before: self.activity.begun(), deadline: Instant::now() + bound });
            self.activity.head_begins();
        }
    }

    /// Whether the head is late. Otherwise, wakes the task when it will be.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(Head { deadline, .. }) = self.head else { return false };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedHeads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(bound) = self.bound else { return Pin::new(&mut self.stream).poll_read(context, buffer) };
        if self.head.as_ref().is_some_and(|head| head.before != self.activity.begun()) {
            self.head = None;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.arrived(bound);
        }
        if read.is_pending() && self.is_late(context) {
            let why = "the head of a request took longer than timeouts.headers";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedHeads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    fn connection(bound: Option<Duration>) -> (DuplexStream, Activity, TimedHeads<DuplexStream>) {
        let (client, stream) = duplex(1000);
        let activity = Activity::new();
        (client, activity.clone(), TimedHeads::new(stream, activity, bound))
    }

    /// Reads what is there. Returns the time until there is more, or the end or an error.
    async fn read(server: &mut TimedHeads<DuplexStream>) -> (io::Result<usize>, Duration) {
        let start = Instant::now();
        let read = server.read(&mut [0; 100]).await;
        (read, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_on() {
        let (mut client, activity, mut server) = connection(Some(BOUND));
        for _ in 0..3 {
            // The wait for a request has no bound here.
            assert!(tokio::time::timeout(BOUND * 10, read(&mut server)).await.is_err());
            client.write_all(b"GET").await.expect("written");
            assert!(!activity.has_head());
            assert_eq!(read(&mut server).await.0.expect("there"), 3);
            assert!(activity.has_head());
            assert!(tokio::time::timeout(BOUND / 2, read(&mut server)).await.is_err());
            client.write_all(b" / ").await.expect("written");
            assert_eq!(read(&mut server).await.0.expect("there"), 3);
            // The head is complete. A request may take any time, and so may its body.
            let busy = activity.begin();
            assert!(tokio::time::timeout(BOUND * 10, read(&mut server)).await.is_err());
            client.write_all(b"body").await.expect("written");
            assert_eq!(read(&mut server).await.0.expect("there"), 4);
            drop(busy);
        }
        client.write_all(b"GET").await.expect("written");
        assert_eq!(read(&mut server).await.0.expect("there"), 3);
        tokio::time::sleep(BOUND / 2).await;
        client.write_all(b" / ").await.expect("written");
        assert_eq!(read(&mut server).await.0.expect("there"), 3);
        let (late, after) = read(&mut server).await;
        assert_eq!((late.expect_err("late").kind(), after), (io::ErrorKind::TimedOut, BOUND / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_has_no_such_bound() {
        let (mut client, _activity, mut server) = connection(None);
        client.write_all(b"PRI").await.expect("written");
        assert_eq!(read(&mut server).await.0.expect("there"), 3);
        assert!(tokio::time::timeout(BOUND * 10, read(&mut server)).await.is_err());
    }
}
