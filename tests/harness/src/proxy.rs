//! An HTTP proxy in front of a store that adds faults.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;

use crate::body::{Body, BoxError, full};
use crate::fault::{BodyFault, Faults, faulty};
use crate::port::Port;
use crate::record::Record;
use crate::server::Server;

/// A fault proxy in front of a plain HTTP server. `Host`, path and headers are forwarded unchanged, so that
/// the signatures of clients that sign for the proxy's address stay valid.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: Authority,
    client: Client<HttpConnector, Incoming>,
    faults: watch::Sender<Faults>,
    /// The number of bodies for which there was a fault.
    faulty_bodies: AtomicU64,
    /// The number of bodies that were stopped.
    held: watch::Sender<u64>,
    record: Record,
}

impl Proxy {
    /// Starts a proxy in front of the server at `upstream`, without faults.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let upstream = Authority::try_from(upstream.to_string()).map_err(io::Error::other)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let shared = Arc::new(Shared {
            upstream,
            client: Client::builder(TokioExecutor::new()).build(connector),
            faults: watch::Sender::new(Faults::default()),
            faulty_bodies: AtomicU64::new(0),
            held: watch::Sender::new(0),
            record: Record::default(),
        });
        let serving = Arc::clone(&shared);
        let server = Server::start(
            Port::free()?,
            None,
            service_fn(move |request| Arc::clone(&serving).answer(request)),
        )?;
        Ok(Self { server, shared })
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Changes the faults. Some also apply to answers in flight, see [`Faults`].
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// From now on, bodies of requests with `part` in path and query stop after `bytes` bytes, until
    /// [`heal`](Self::heal). The returned future resolves when a body has stopped.
    pub fn hold(&self, part: &str, bytes: u64) -> impl Future<Output = ()> + use<> {
        let mut held = self.shared.held.subscribe();
        held.mark_unchanged();
        self.set(|faults| {
            (faults.body, faults.only) = (Some(BodyFault::HoldAfter(bytes)), Some(part.to_owned()));
        });
        async move {
            if held.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Refuses new connections and ends open ones, like a host that is down.
    pub async fn down(&self) {
        self.server.close().await;
        self.server.cut();
    }

    /// Refuses new connections. Open ones continue.
    pub async fn refuse(&self) {
        self.server.close().await;
    }

    /// Ends open connections. New ones are accepted.
    pub fn cut(&self) {
        self.server.cut();
    }

    /// Removes all faults except latency and bandwidth, and accepts connections.
    pub async fn heal(&self) {
        self.set(|faults| {
            *faults = Faults { latency: faults.latency, bandwidth: faults.bandwidth, ..Faults::default() };
        });
        self.server.open().await;
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The record of the requests.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.shared.record
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        self.record.note(&request);
        let mut faults = self.faults.subscribe();
        faults.wait_for(|faults| !faults.hang).await?;
        let target = request.uri().path_and_query().map(PathAndQuery::to_string).unwrap_or_default();
        let method = request.method().clone();
        if let Some(status) = self.take(&target, |faults| faults.status) {
            let latency = faults.borrow().latency;
            tokio::time::sleep(latency).await;
            return Ok(refusal(status));
        }
        let response = self.forward(request).await?;
        let latency = faults.borrow().latency;
        tokio::time::sleep(latency).await;
        faults.wait_for(|faults| !faults.hang).await?;
        let faulty_bodies = method == Method::GET && response.status().is_success();
        let fault = if faulty_bodies { self.take(&target, |faults| faults.body) } else { None };
        Ok(self.with_fault(response, fault, faults))
    }

    /// The fault that `choose` finds, if it applies to `target` and is not used up. It is counted as used
    /// once.
    fn take<T>(&self, target: &str, choose: impl FnOnce(&Faults) -> Option<T>) -> Option<T> {
        let mut taken = None;
        self.faults.send_if_modified(|faults| {
            let meant = faults.only.as_ref().is_none_or(|part| target.contains(part));
            if !meant || faults.times == Some(0) {
                return false;
            }
            taken = choose(faults);
            if taken.is_some() {
                faults.times = faults.times.map(|times| times - 1);
            }
            taken.is_some()
        });
        taken
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Incoming>, BoxError> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.upstream.clone());
        head.uri = Uri::from_parts(uri)?;
        head.version = http::Version::HTTP_11;
        head.headers.remove(CONNECTION);
        Ok(self.client.request(Request::from_parts(head, body)).await?)
    }

    fn with_fault(
        &self,
        response: Response<Incoming>,
        fault: Option<BodyFault>,
        faults: watch::Receiver<Faults>,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        head.headers.remove(CONNECTION);
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let count = || self.faulty_bodies.fetch_add(1, Ordering::Relaxed);
        let fault = fault.and_then(|fault| fault.drawn(count(), length.unwrap_or(0)));
        if let (Some(fault), Some(length)) = (fault, length) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(fault.announced(length)));
        }
        if faults.borrow().no_length {
            head.headers.remove(CONTENT_LENGTH);
        }
        Response::from_parts(head, faulty(body, length, fault, faults, self.held.clone()))
    }
}

/// An S3 error, like that of a failing store.
fn refusal(status: StatusCode) -> Response<Body> {
    let code = match status {
        StatusCode::SERVICE_UNAVAILABLE => "SlowDown",
        StatusCode::FORBIDDEN => "AccessDenied",
        StatusCode::NOT_FOUND => "NoSuchKey",
        _ => "InternalError",
    };
    let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let mut response = Response::new(full(Bytes::from(xml)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}
