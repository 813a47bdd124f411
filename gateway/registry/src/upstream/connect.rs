//! TCP and TLS connections to the registry.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backends::proxy::{Duplex, Proxy, ProxyFault, tunnel};
use backends::{dial, shun};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connects to one instance, whatever host the request's URI names: the URI has the registry's own name, and
/// in a split DNS that name leads to the gateway itself.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// `None` for plain HTTP.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The proxy that leads to it, and the TLS policy for the proxy itself.
    pub(super) proxy: Option<(Arc<Proxy>, Arc<rustls::ClientConfig>)>,
    pub(super) timeout: Duration,
}

impl tower_service::Service<Uri> for Connect {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connect = self.clone();
        Box::pin(async move { connect.stream().await.map(TokioIo::new) })
    }
}

impl Connect {
    async fn stream(&self) -> io::Result<Stream> {
        let until = Instant::now() + self.timeout;
        if let Some((proxy, tls)) = &self.proxy {
            let late = |_| {
                let why = format!("no connection in time through the proxy {proxy}");
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            let line = timeout_at(until, self.through(proxy, tls)).await.map_err(late)??;
            return Ok(Stream::new(Line::Tunnel(line)));
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        // TCP keep-alive is on: nothing is sent for minutes while the registry assembles a blob after an
        // upload's last request.
        let tcp = timeout_at(until, dial(&self.host, self.port)).await.map_err(late)??;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::new(Line::Plain(tcp))) };
        let peer = tcp.peer_addr();
        let connected = timeout_at(until, connector.connect(name.clone(), tcp)).await.map_err(late);
        let connected = connected.and_then(|connected| connected);
        if let (Err(_), Ok(peer)) = (&connected, peer) {
            // Another address of the same name may work.
            shun(&self.host, self.port, peer.ip());
        }
        connected.map(|stream| Stream::new(Line::Tls(Box::new(stream))))
    }

    /// Connects through a proxy. Plain HTTP goes through a tunnel too: the proxy must neither change the path, nor
    /// resolve the registry's own name, which the request's `Host` has.
    async fn through(&self, proxy: &Proxy, tls: &Arc<rustls::ClientConfig>) -> io::Result<Box<dyn Duplex>> {
        let tcp = dial(proxy.host(), proxy.port()).await.map_err(|error| {
            let fault = ProxyFault::Unreachable(proxy.to_string());
            io::Error::new(error.kind(), format!("{fault}: {error}"))
        })?;
        let line = tunnel(tcp, proxy, (&self.host, self.port), tls).await?;
        let Some((connector, name)) = &self.tls else { return Ok(line) };
        let connected = connector.connect(name.clone(), line).await;
        connected.map(|stream| Box::new(stream) as Box<dyn Duplex>).map_err(|error| {
            let fault = ProxyFault::Behind(proxy.to_string());
            io::Error::new(error.kind(), format!("{fault}: {error}"))
        })
    }
}

/// A connection to the registry.
///
/// If a registry refuses a request before it has read all of it, it answers and closes the connection, and
/// later writes fail. The answer can still be read. So such a write counts as done, and the reader learns how
/// the exchange ended.
pub(super) struct Stream {
    line: Line,
    /// Whether the registry has stopped reading.
    refused: bool,
}

enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Through a proxy, with or without TLS.
    Tunnel(Box<dyn Duplex>),
}

impl Stream {
    fn new(line: Line) -> Self {
        Self { line, refused: false }
    }

    /// The result of a write of `whole`.
    fn write_result<T>(&mut self, written: Poll<io::Result<T>>, whole: T) -> Poll<io::Result<T>> {
        const REFUSED: [io::ErrorKind; 2] = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        match written {
            Poll::Ready(Err(error)) if REFUSED.contains(&error.kind()) => {
                self.refused = true;
                Poll::Ready(Ok(whole))
            }
            written => written,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.line {
            Line::Plain($stream) => $call,
            Line::Tls($stream) => $call,
            Line::Tunnel($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refused {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = each!(self, stream => Pin::new(stream).poll_write(context, bytes));
        self.write_result(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let flushed = each!(self, stream => Pin::new(stream).poll_flush(context));
        self.write_result(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
