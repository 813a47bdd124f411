//! A loopback HTTP server that can be closed, opened and cut while it runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::body::BoxError;
use crate::port::Port;

/// A server on its own port. Dropping it ends its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    connections: Arc<Connections>,
    _stop: DropGuard,
}

/// The connections of a server.
#[derive(Debug, Default)]
struct Connections {
    open: AtomicUsize,
    /// Cancelled to end all open connections, and replaced for later ones.
    cut: Mutex<CancellationToken>,
}

impl Server {
    /// Serves on `port`, with TLS if `tls` is given (HTTP/2 by ALPN).
    ///
    /// # Errors
    /// Another listener uses the port.
    pub fn start<S, B>(port: Port, tls: Option<Arc<rustls::ServerConfig>>, service: S) -> io::Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let address = port.address();
        let first = port.listen()?;
        let (wanted, want) = watch::channel(true);
        let (is, listening) = watch::channel(true);
        let stop = CancellationToken::new();
        let connections = Arc::new(Connections::default());
        let accept_loop = AcceptLoop {
            port,
            want,
            is,
            connections: Arc::clone(&connections),
            stop: stop.clone(),
            tls: tls.map(TlsAcceptor::from),
        };
        tokio::spawn(accept_loop.keep(first, service));
        Ok(Self { address, wanted, listening, connections, _stop: stop.drop_guard() })
    }

    /// The address at which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening: new connections are refused. Open ones stay.
    pub async fn close(&self) {
        self.set_listening(false).await;
    }

    /// Listens again.
    pub async fn open(&self) {
        self.set_listening(true).await;
    }

    async fn set_listening(&self, on: bool) {
        self.wanted.send_replace(on);
        // An error means that the runtime has ended.
        let _ = self.listening.clone().wait_for(|is| *is == on).await;
    }

    /// Ends every open connection, even in the middle of a body.
    pub fn cut(&self) {
        let mut cut = self.connections.cut.lock();
        std::mem::take(&mut *cut).cancel();
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }
}

/// The accept loop.
struct AcceptLoop {
    port: Port,
    want: watch::Receiver<bool>,
    is: watch::Sender<bool>,
    connections: Arc<Connections>,
    stop: CancellationToken,
    tls: Option<TlsAcceptor>,
}

impl AcceptLoop {
    async fn keep<S, B>(mut self, first: TcpListener, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let stop = self.stop.clone();
        let mut listener = Some(first);
        loop {
            let accepted = match &listener {
                None => None,
                Some(listener) => tokio::select! {
                    () = stop.cancelled() => return,
                    _ = self.want.wait_for(|open| !open) => None,
                    accepted = listener.accept() => Some(accepted),
                },
            };
            match accepted {
                Some(Ok((stream, _))) => self.serve(stream, service.clone()),
                Some(Err(_)) => tokio::task::yield_now().await,
                None => {
                    drop(listener.take());
                    self.is.send_replace(false);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        wanted = self.want.wait_for(|open| *open) => if wanted.is_err() { return },
                    }
                    let Ok(again) = self.port.listen() else { return };
                    listener = Some(again);
                    self.is.send_replace(true);
                }
            }
        }
    }

    fn serve<S, B>(&self, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let counted = Counted::new(Arc::clone(&self.connections));
        let cut = self.connections.cut.lock().clone();
        let (stop, tls) = (self.stop.clone(), self.tls.clone());
        tokio::spawn(async move {
            let _counted = counted;
            let builder = auto::Builder::new(TokioExecutor::new());
            let serving = async {
                stream.set_nodelay(true)?;
                match tls {
                    None => builder.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => {
                        builder.serve_connection(TokioIo::new(tls.accept(stream).await?), service).await
                    }
                }
            };
            tokio::select! {
                () = cut.cancelled() => {}
                () = stop.cancelled() => {}
                _ = serving => {}
            }
        });
    }
}

/// Counts an open connection during its life.
struct Counted(Arc<Connections>);

impl Counted {
    fn new(connections: Arc<Connections>) -> Self {
        connections.open.fetch_add(1, Ordering::Relaxed);
        Self(connections)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
