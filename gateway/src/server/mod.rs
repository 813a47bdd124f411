//! Accepting clients: TLS, HTTP/1.1 and HTTP/2, with a bound on everything.

mod bounded_io;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::bounded_io::BoundedIo;
use crate::Gateway;
use crate::config::{Limits, Timeouts};
use crate::route;

/// After a failed accept, such as for want of file descriptors: long enough for some to be
/// closed, short enough that clients do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Accepts clients until `shutdown`, then lets requests under way finish within
/// `timeouts.drain`.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    tls: TlsAcceptor,
    shutdown: CancellationToken,
) {
    let limits = &gateway.settings.limits;
    let http = Arc::new(builder(limits, &gateway.settings.timeouts));
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    while let Some((permit, accepted)) = next(&listener, &connections, &shutdown).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let client = Client {
            gateway: Arc::clone(&gateway),
            tls: tls.clone(),
            http: Arc::clone(&http),
            peer,
            watcher: graceful.watcher(),
        };
        tokio::spawn(async move {
            client.serve(stream).await;
            drop(permit);
        });
    }
    drop(listener);
    let drain = gateway.settings.timeouts.drain;
    let open = limits.connections - connections.available_permits();
    tracing::info!(
        connections = open,
        seconds = drain.as_secs(),
        "no new clients; requests under way may finish"
    );
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        let open = limits.connections - connections.available_permits();
        tracing::warn!(connections = open, "cut: still busy when timeouts.drain ended");
    }
}

type Accepted = (tokio::sync::OwnedSemaphorePermit, std::io::Result<(TcpStream, SocketAddr)>);

/// The next client, once there is room for it; `None` on shutdown.
async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<Accepted> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = async {
            let permit = Arc::clone(connections).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        } => accepted,
    }
}

fn builder(limits: &Limits, timeouts: &Timeouts) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper wants at least 8 KiB for its own buffer.
    let header_bytes = usize::try_from(limits.header_bytes.as_u64()).unwrap_or(usize::MAX).max(8192);
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

struct Client {
    gateway: Arc<Gateway>,
    tls: TlsAcceptor,
    http: Arc<auto::Builder<TokioExecutor>>,
    peer: SocketAddr,
    watcher: Watcher,
}

impl Client {
    async fn serve(self, stream: TcpStream) {
        let timeouts = &self.gateway.settings.timeouts;
        // Answers are written whole; waiting for more only delays their last packet.
        let _ = stream.set_nodelay(true);
        let mut stream = match tokio::time::timeout(timeouts.handshake, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(peer = %self.peer, "no TLS handshake in time"),
        };
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let io = TokioIo::new(BoundedIo::new(stream, timeouts.client_stall));
        let (gateway, address) = (Arc::clone(&self.gateway), self.peer.ip());
        let service = service_fn(move |request| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, std::convert::Infallible>(route::answer(&gateway, request, address).await) }
        });
        let connection = self.http.serve_connection(io, service).into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(peer = %self.peer, error = causes(&*error), "connection ended");
        }
    }
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
