//! One client's connection, from its TLS handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::bounded_io::BoundedIo;
use crate::Gateway;
use crate::config::{Limits, Timeouts};
use crate::route;

/// What TLS buffers for one client, in bytes: a whole piece of a body, so that one system call
/// takes many records.
const TLS_BUFFER: usize = 256 * 1024;

/// HTTP/2 windows for pushes, in bytes: a window bounds a stream's speed to window per round trip.
const H2_STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// What HTTP/2 buffers for one stream that is being answered, in bytes.
const H2_SEND_BUFFER: usize = 512 * 1024;

/// How often a silent HTTP/2 client is asked whether it lives, and how long it has to answer.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// hyper's own least buffer, in bytes.
const H1_BUFFER_MIN: usize = 8192;

/// How long a client that has been told to go, being idle, has to go.
const FAREWELL: Duration = Duration::from_secs(5);

/// HTTP as TLS agreed on it. Never guessed from the first bytes, as waiting for those would have
/// no bound.
pub(super) struct Protocols {
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        Self { http1: builder(limits, timeouts).http1_only(), http2: builder(limits, timeouts).http2_only() }
    }

    fn agreed(&self, stream: &TlsStream<TcpStream>) -> &auto::Builder<TokioExecutor> {
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => &self.http2,
            _ => &self.http1,
        }
    }
}

fn builder(limits: &Limits, timeouts: &Timeouts) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(limits.header_bytes.as_u64()).unwrap_or(usize::MAX).max(H1_BUFFER_MIN);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.headers)
        .max_headers(limits.headers)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// A client that has just connected.
pub(super) struct Client {
    pub(super) gateway: Arc<Gateway>,
    pub(super) tls: TlsAcceptor,
    pub(super) protocols: Arc<Protocols>,
    pub(super) peer: SocketAddr,
    pub(super) shutdown: CancellationToken,
}

impl Client {
    /// Serves it to its end.
    pub(super) async fn serve(self, stream: TcpStream) {
        // Answers are written whole; waiting for more only delays their last packet.
        let _ = stream.set_nodelay(true);
        if let Some(stream) = self.handshake(stream).await {
            self.requests(stream).await;
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let bound = self.gateway.settings.timeouts.handshake;
        let done = tokio::select! {
            done = tokio::time::timeout(bound, self.tls.accept(stream)) => done,
            () = self.shutdown.cancelled() => return None,
        };
        match done {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
                return Some(stream);
            }
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "no TLS handshake in time"),
        }
        None
    }

    async fn requests(&self, stream: TlsStream<TcpStream>) {
        let timeouts = &self.gateway.settings.timeouts;
        let activity = Activity::new();
        let http = self.protocols.agreed(&stream);
        let io = TokioIo::new(BoundedIo::new(stream, timeouts.client_stall));
        let service = service_fn(|request| {
            let (gateway, busy, client) = (Arc::clone(&self.gateway), activity.begin(), self.peer.ip());
            async move { Ok::<_, Infallible>(busy.until_sent(route::answer(&gateway, request, client).await)) }
        });
        let mut connection = pin!(http.serve_connection(io, service));
        let mut told_to_go = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %self.peer, error = causes(&*error), "connection ended");
                    }
                    return;
                }
                () = self.shutdown.cancelled(), if told_to_go.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    told_to_go = Some(Instant::now());
                }
                () = tokio::time::sleep_until(idle_end(&activity, told_to_go, timeouts.headers)) => {
                    if idle_end(&activity, told_to_go, timeouts.headers) > Instant::now() {
                        continue;
                    }
                    if told_to_go.is_some() {
                        return tracing::debug!(peer = %self.peer, "idle and told to go, but still here: cut");
                    }
                    connection.as_mut().graceful_shutdown();
                    told_to_go = Some(Instant::now());
                }
            }
        }
    }
}

/// When the patience with an idle connection ends; while it is busy, when to look again.
fn idle_end(activity: &Activity, told_to_go: Option<Instant>, headers: Duration) -> Instant {
    match (activity.idle_since(), told_to_go) {
        (Some(since), None) => since + headers,
        (Some(since), Some(told)) => since.max(told) + FAREWELL,
        (None, _) => Instant::now() + headers,
    }
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
