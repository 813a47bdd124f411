//! One client's connection, from its TLS handshake to its end.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Held};
use super::bounded_io::BoundedIo;
use super::cost::cost;
use super::inbox::{Counted, Inbox};
use super::roster::Seat;
use super::send_buffer::{ClientSocket, SendBuffer};
use super::timed_heads::TimedHeads;
use crate::Gateway;
use crate::gateway::Current;
use crate::request::Client;
use crate::request::RequestBody;
use crate::route;
use config::{Limits, Settings, Timeouts};
use gateway_http::{PIECE_MAX, PIECE_MIN, Problem};
use limits::memory::{Holder, Memory, Use};

/// The most bytes that TLS buffers for one client. A whole piece of a body fits, so that one system call writes many
/// records. The buffer grows with the pieces, and the pieces grow as the client takes them.
const TLS_BUFFER: usize = PIECE_MAX;

/// The HTTP/2 window for pushes, in bytes, of a stream and of the whole connection. It limits the speed to one window
/// per round trip. It is also the most that the gateway buffers for a client.
const H2_WINDOW: u32 = 1024 * 1024;

/// The bytes of one answer that HTTP/2 buffers before it asks for the next piece.
const H2_SEND_BUFFER: usize = PIECE_MIN;

/// The bytes that the kernel may hold for a client beyond those on their way. With a larger value, a client that takes
/// no bytes would look fast for megabytes.
const UNSENT: u32 = 512 * 1024;

/// The smallest buffer that hyper allows, in bytes.
const H1_BUFFER_MIN: u64 = 8192;

/// If a client never sent a request and is told to go, it has this long to close the connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// A piece of an HTTP/2 answer may stay with the client for this many times `timeouts.client_stall`, because it may be
/// a large piece from a time when the client was fast. `BoundedIo` measures the bytes that the socket does not take.
const H2_PIECE_STALLS: u32 = 2;

/// The same, while other answers on the connection make progress: a client may read one answer after the other.
const H2_NEIGHBOUR_STALLS: u32 = 30;

/// One builder for each HTTP version that TLS can agree on. The version is never guessed from the first bytes, because
/// the wait for those bytes would have no bound.
pub(crate) struct Protocols {
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocols").finish_non_exhaustive()
    }
}

impl Protocols {
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        Self { http1: builder(limits, timeouts).http1_only(), http2: builder(limits, timeouts).http2_only() }
    }
}

/// The bytes of a request's head that are read. [`gateway_http::check_head`] checks the exact limit.
fn header_bytes(limits: &Limits) -> u64 {
    limits.header_bytes.as_u64().max(H1_BUFFER_MIN)
}

fn builder(limits: &Limits, timeouts: &Timeouts) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(header_bytes(limits)).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // This includes the wait for the head.
        .header_read_timeout(timeouts.idle.saturating_add(timeouts.headers))
        .max_headers(limits.headers)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_WINDOW)
        // HTTP/2 sends no pings. A ping waits behind the bytes that a slow reader has not taken, so its timeout would
        // cut the reader.
        .max_send_buf_size(H2_SEND_BUFFER);
    builder
}

/// A connection that has just been accepted.
pub(super) struct Connection {
    pub(super) current: Arc<Current>,
    pub(super) peer: SocketAddr,
    /// Whether the peer is a trusted proxy, whose requests may name their clients.
    pub(super) proxy: bool,
    pub(super) seat: Seat,
    pub(super) shutdown: CancellationToken,
    pub(super) inbox: Inbox,
    pub(super) buffer: SendBuffer,
}

/// A client's connection below TLS. A stall has a bound, and the bytes that the client takes are measured.
type Socket = ClientSocket<BoundedIo<TcpStream>>;

impl Connection {
    /// Serves the connection until it ends, or until it is asked to go while it is idle.
    pub(super) async fn serve(&self, stream: TcpStream) {
        let mut served = pin!(self.serve_all(stream));
        loop {
            tokio::select! {
                biased;
                // This branch comes first, so that HTTP/2 writes its last bytes of an answer before the connection
                // counts as idle.
                () = served.as_mut() => return,
                () = self.seat.asked_to_go() => match self.seat.activity().spare_since() {
                    Some(_) => {
                        self.gateway().metrics.connection_shed();
                        return tracing::debug!(peer = %self.peer, "idle: makes room for another client");
                    }
                    None => self.seat.stays(),
                },
            }
        }
    }

    /// The gateway of this moment. It is not kept for longer than a request.
    fn gateway(&self) -> Arc<Gateway> {
        self.current.load()
    }

    async fn serve_all(&self, stream: TcpStream) {
        // The gateway writes an answer whole. Nagle's algorithm would only delay its last packet.
        let _ = stream.set_nodelay(true);
        // Without keep-alive, firewalls and load balancers forget a connection that is silent while a registry
        // assembles a blob.
        let _ = backends::keepalive(&stream);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let stream = BoundedIo::new(stream, self.gateway().settings.timeouts.client_stall);
        let stream = ClientSocket::new(stream, self.buffer.clone());
        if let Some(stream) = self.handshake(stream).await {
            self.requests(stream).await;
        }
    }

    async fn handshake(&self, stream: Socket) -> Option<TlsStream<Socket>> {
        let gateway = self.gateway();
        let bound = gateway.settings.timeouts.handshake;
        // The certificates of this moment. Connections that are open keep theirs.
        let tls = TlsAcceptor::from(gateway.server_tls.config());
        let done = tokio::select! {
            done = tokio::time::timeout(bound, tls.accept(stream)) => done,
            () = self.shutdown.cancelled() => return None,
        };
        match done {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
                return Some(stream);
            }
            Ok(Err(error)) if is_refusal(&error) => {
                gateway.metrics.handshake_failed("refused");
                let why = "it does not trust the CA, or the certificate is not for the name that it dialled";
                tracing::warn!(peer = %self.peer, %error, "the client refused the TLS handshake: {why}");
            }
            Ok(Err(error)) if lacks_certificate(&error) => {
                gateway.metrics.handshake_failed("client_certificate");
                tracing::debug!(peer = %self.peer, %error, "the client shows no certificate that tls.client_ca signed");
            }
            Ok(Err(error)) => {
                gateway.metrics.handshake_failed("broken");
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
            }
            Err(_) => {
                gateway.metrics.handshake_failed("late");
                tracing::debug!(peer = %self.peer, "no TLS handshake in time");
            }
        }
        None
    }

    /// Reserves the memory that a request needs, before any work is done for it.
    fn memory(
        &self,
        memory: &Memory,
        request: &Request<Incoming>,
        client: Holder,
        h2: bool,
    ) -> Result<Held, Problem> {
        let no_room = || Problem::overload("limits.memory has no room");
        let window = || memory.reserve(Use::Windows, Some(client), H2_WINDOW.into());
        let window = match h2 && !request.body().is_end_stream() {
            true => Some(self.seat.activity().window(window).ok_or_else(no_room)?),
            false => None,
        };
        let request = memory.reserve(Use::Requests, Some(client), cost(request)).ok_or_else(no_room)?;
        Ok(Held::new(request, window))
    }

    /// Waits until the gateway stops, or until the client must open a new connection.
    async fn must_go(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.inbox.renewal() => {
                self.gateway().metrics.connection_renewed();
                tracing::debug!(peer = %self.peer, "asked for much: may come with a new connection");
            }
        }
    }

    /// The bounds of the connection itself. They are those of its beginning; each request has those of its own beginning.
    fn bounds(&self) -> (Timeouts, Limits, Arc<Protocols>) {
        let gateway = self.gateway();
        let Settings { timeouts, limits, .. } = &gateway.settings;
        (timeouts.clone(), limits.clone(), Arc::clone(&gateway.protocols))
    }

    async fn requests(&self, stream: TlsStream<Socket>) {
        let (timeouts, limits, protocols) = &self.bounds();
        let activity = self.seat.activity();
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        activity.buffer(self.buffer.clone());
        if h2 {
            self.buffer.multiplexed();
            self.inbox.multiplexed(header_bytes(limits));
        }
        let http = if h2 { &protocols.http2 } else { &protocols.http1 };
        let counted = Counted::new(stream, self.inbox.clone());
        let io = TokioIo::new(TimedHeads::new(counted, activity.clone(), (!h2).then_some(timeouts.headers)));
        let service = service_fn(|request: Request<Incoming>| {
            self.inbox.request_begins();
            let (gateway, busy) = (self.gateway(), activity.begin());
            let (peer, settings) = (self.peer.ip(), &gateway.settings);
            let proxies = if self.proxy { &settings.trusted_proxies[..] } else { &[] };
            let dialled = gateway.names.dialled(authority(&request)).clone();
            let client = Client::of_request(peer, self.seat.number(), request.headers(), proxies, dialled);
            let slot = gateway.requests.try_take(&client.identity);
            let held = slot
                .and_then(|slot| Ok((slot, self.memory(&gateway.memory, &request, client.holder(), h2)?)));
            let request = RequestBody::new(request, &self.inbox, &settings.limits, &settings.timeouts);
            async move {
                let (busy, response) = match held {
                    Ok((slot, memory)) => {
                        let client = client.holding(slot, memory.request());
                        (busy.holding(memory), route::answer(&gateway, request, &client).await)
                    }
                    Err(problem) => (busy, route::overloaded(&gateway, request, &client, &problem)),
                };
                Ok::<_, Infallible>(busy.until_sent(response))
            }
        });
        let mut connection = pin!(http.serve_connection(io, service));
        let mut told_to_go = None;
        loop {
            // No event tells when a request begins or ends, so the state is looked at now and then.
            let look = Instant::now() + timeouts.client_stall.min(timeouts.headers).min(timeouts.idle);
            let patience = Patience::new(activity, h2, told_to_go, timeouts);
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        if is_malformed(&*error) {
                            self.gateway().metrics.answered("malformed", StatusCode::BAD_REQUEST.as_u16());
                        }
                        tracing::debug!(peer = %self.peer, error = causes(&*error), "connection ended");
                    }
                    return;
                }
                () = self.must_go(), if told_to_go.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    told_to_go = Some(Instant::now());
                }
                () = tokio::time::sleep_until(patience.ends().map_or(look, |end| end.min(look))) => {
                    match Patience::new(activity, h2, told_to_go, timeouts) {
                        now if now.ends().is_none_or(|end| end > Instant::now()) => {}
                        Patience::Idle(_) => {
                            connection.as_mut().graceful_shutdown();
                            told_to_go = Some(Instant::now());
                        }
                        Patience::Busy => {}
                        Patience::Gone(_) => {
                            return tracing::debug!(peer = %self.peer, "takes nothing, or will not go: cut");
                        }
                    }
                }
            }
        }
    }
}

/// How long the connection may stay in its present state.
enum Patience {
    /// The connection is idle. At this time the client is told to go.
    Idle(Instant),
    /// The connection is busy and has no bound.
    Busy,
    /// The client takes no bytes of an answer, or the connection is idle and the client was told to go. At this time
    /// the connection is cut.
    Gone(Instant),
}

impl Patience {
    fn new(activity: &Activity, h2: bool, told_to_go: Option<Instant>, timeouts: &Timeouts) -> Self {
        let stall = timeouts.client_stall;
        match (activity.idle_since(), activity.stalled()) {
            (Some(since), _) => match told_to_go {
                // `TimedHeads` limits its time.
                None if activity.has_head() => Self::Busy,
                None if activity.has_begun() => Self::Idle(since + timeouts.idle),
                None => Self::Idle(since + timeouts.headers),
                // The last bytes of an answer may still be on their way.
                Some(told) if activity.has_begun() => Self::Gone(since.max(told) + stall),
                Some(told) => Self::Gone(told + FAREWELL.min(stall)),
            },
            (None, Some(stalled)) if h2 => {
                let times = if stalled.all { H2_PIECE_STALLS } else { H2_NEIGHBOUR_STALLS };
                Self::Gone(stalled.since + stall * times)
            }
            (None, _) => Self::Busy,
        }
    }

    fn ends(&self) -> Option<Instant> {
        match self {
            Self::Idle(end) | Self::Gone(end) => Some(*end),
            Self::Busy => None,
        }
    }
}

/// The name that the client dialled, as it says. HTTP/2 has it in the target, HTTP/1.1 in `Host`.
fn authority(request: &Request<Incoming>) -> Option<&str> {
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(http::uri::Authority::as_str).or_else(host)
}

/// Whether the client refused the handshake by an alert. A port scan or a broken line is no refusal.
fn is_refusal(error: &std::io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::AlertReceived(_)))
}

/// Whether `tls.client_ca` demands a certificate, and the client has none, or one that is refused.
fn lacks_certificate(error: &std::io::Error) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_))
    )
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the client sent something that is not an HTTP request. hyper answers it with 400, 414 or 431, and no handler
/// sees it.
fn is_malformed(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
