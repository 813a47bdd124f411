//! What all HTTP drivers share: TLS, time bounds, and a client of its own per store.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::header::{ETAG, USER_AGENT};
use reqwest::{Request, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::answer::broken;
use crate::headers::{Brought, Ends, brought};
use crate::resolver::Resolver;
use crate::upload::Upload;
use crate::user_agent::user_agent;
use crate::{ByteStream, Error, Kind, Object, PemError, Result};

/// Idle connections kept per store: enough for the readers of a rollout to find one.
const IDLE_CONNECTIONS: usize = 64;

/// How long a connection may idle, in seconds; stores and their balancers close them at 20 to 75.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The longest answer that is read as a whole, in bytes: an error, or a page of a listing.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How many times `first_byte` a store may take to make what it has received durable.
const WRITE_PATIENCE: u32 = 6;

/// Time bounds of one store. None covers a whole body: a large blob on a slow line is no fault.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To a TCP connection and its TLS handshake.
    pub connect: Duration,
    /// From the request to the answer's headers; six times this after the last byte of a write.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(5),
            stall: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// From the last byte of a write to the answer's headers.
    #[must_use]
    pub fn written(&self) -> Duration {
        self.first_byte * WRITE_PATIENCE
    }
}

/// What a driver needs to speak HTTP: one TLS policy for all of them, and the time bounds.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Roots and protocol versions; the caller's one TLS policy.
    pub tls: Arc<rustls::ClientConfig>,
    /// Time bounds.
    pub timeouts: Timeouts,
    /// What outlives the call that began it, such as the abort of an upload that was given up:
    /// whoever ends the process closes it and waits for it, within a bound.
    pub tidying: TaskTracker,
}

impl Transport {
    /// With nothing to tidy up so far.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>, timeouts: Timeouts) -> Self {
        Self { tls, timeouts, tidying: TaskTracker::new() }
    }

    /// The same, trusting nobody but the roots in a PEM file: what Python's `requests` makes of
    /// `verify=<file>`. Protocol versions are the provider's safe defaults.
    pub(crate) fn trusting_only(&self, file: &Path) -> Result<Self> {
        let unusable = |why: &str| {
            let what = format!("read roots from {}: {why}", file.display());
            Error::new(Kind::Invalid, what)
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable("PEM is expected").with_cause(PemError::from(error)))?;
        let mut roots = rustls::RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(unusable("no usable certificate is in it"));
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(self.tls.crypto_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("no protocol").with_cause(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), ..self.clone() })
    }

    /// A client of its own, so that no store waits for another's connections.
    pub(crate) fn client(&self) -> Result<HttpClient> {
        // Parallel TCP connections carry bulk better than one flow-controlled HTTP/2 connection.
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let resolver = Resolver::default();
        let client = reqwest::Client::builder()
            .dns_resolver(resolver.clone())
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .build()
            .map_err(|error| broken("make an HTTP client", error))?;
        Ok(HttpClient { client, resolver, timeouts: self.timeouts })
    }
}

/// An HTTP client with the time bounds of one store.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    resolver: Resolver,
    timeouts: Timeouts,
}

impl HttpClient {
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request, to the address of its host that answers first.
    async fn execute(&self, request: Request) -> reqwest::Result<Response> {
        let url = request.url().clone();
        self.resolver.expect(&url);
        let answer = self.client.execute(request).await;
        if answer.as_ref().is_err_and(reqwest::Error::is_connect) {
            self.resolver.unconnected(&url);
        }
        answer
    }

    /// Sends a request whose body, if any, is in memory; headers within `bound`.
    ///
    /// What may be done twice is repeated once where a connection broke before the answer: most
    /// often the server had just closed it as idle, which says nothing about the server.
    pub(crate) async fn send(&self, what: &str, mut request: Request, bound: Duration) -> Result<Response> {
        request.headers_mut().insert(USER_AGENT, user_agent());
        let repeatable =
            matches!(*request.method(), http::Method::GET | http::Method::HEAD | http::Method::DELETE);
        let again = request.try_clone().filter(|_| repeatable);
        let answer = async {
            match (self.execute(request).await, again) {
                (Err(error), Some(again)) if broke_off(&error) => self.execute(again).await,
                (answer, _) => answer,
            }
        };
        match timeout(bound, answer).await {
            Ok(answer) => answer.map_err(|error| broken(what, error)),
            Err(_) => Err(late(what, "no answer", bound)),
        }
    }

    /// Sends a request whose body is made as it goes, and bounds each step of it.
    ///
    /// # Errors
    /// What the body died of; else what the connection died of. The second `Err` field says
    /// whether the connection broke in mid-request, which may hide an answer of the store.
    pub(crate) async fn upload(
        &self,
        what: &str,
        mut request: Request,
        upload: Upload,
    ) -> Result<Response, (Error, bool)> {
        let (body, progress) = upload.into_body(what);
        *request.body_mut() = Some(body);
        request.headers_mut().insert(USER_AGENT, user_agent());
        let mut sent = std::pin::pin!(self.execute(request));
        loop {
            let (deadline, _) = progress.deadline(&self.timeouts);
            tokio::select! {
                answer = &mut sent => {
                    return match (answer, progress.take_error()) {
                        (_, Some(error)) => Err((error, false)),
                        // Whatever it has stored: not what was not yet sent, and may never be proven.
                        (Ok(answer), None) if answer.status().is_success() && !progress.is_sent() => {
                            let early = format!("{what}: a success before everything was sent");
                            Err((Error::new(Kind::Unavailable, early), false))
                        }
                        (Ok(answer), None) => Ok(answer),
                        (Err(error), None) => {
                            let unknown = broke_off(&error);
                            Err((broken(what, error), unknown))
                        }
                    };
                }
                () = sleep_until(deadline) => {
                    // It may have moved meanwhile, and with it who is late.
                    let (deadline, overdue) = progress.deadline(&self.timeouts);
                    if deadline <= Instant::now() {
                        return Err((Error::new(overdue, format!("{what}: no progress")), false));
                    }
                }
            }
        }
    }

    /// The object that a successful answer to a GET brings; `asked` is `None` for the whole.
    pub(crate) fn object(
        &self,
        what: String,
        asked: Option<&Range<u64>>,
        answer: Response,
    ) -> Result<Object> {
        let Brought { range, size, ends } = brought(&what, asked, answer.status(), answer.headers())?;
        let version = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let body = self.body(what, answer, range.end - range.start, ends);
        Ok(Object { size, range, body, version })
    }

    /// The body of an answer: exactly `length` bytes, or an error; unless nobody said where it ends.
    fn body(&self, what: String, answer: Response, length: u64, ends: Ends) -> ByteStream {
        let stall = self.timeouts.stall;
        let pieces = answer.bytes_stream().boxed();
        stream::try_unfold((pieces, length), move |(mut pieces, left)| {
            let what = what.clone();
            async move {
                if left == 0 && ends == Ends::Later {
                    return Ok(None);
                }
                let mut piece: Bytes = match timeout(stall, pieces.next()).await {
                    Err(_) => return Err(late(&what, "the body stalled", stall)),
                    Ok(Some(Err(error))) => return Err(broken(&what, error)),
                    Ok(Some(Ok(piece))) => piece,
                    Ok(None) if left == 0 || ends == Ends::Unsaid => return Ok(None),
                    Ok(None) => {
                        return Err(Error::new(Kind::Unavailable, format!("{what}: {left} bytes short")));
                    }
                };
                if ends == Ends::Later {
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                }
                match left.checked_sub(piece.len() as u64) {
                    Some(left) => Ok(Some((piece, (pieces, left)))),
                    None => Err(Error::new(Kind::Corrupt, format!("{what}: more bytes than promised"))),
                }
            }
        })
        .boxed()
    }

    /// A short answer as a whole, at most [`MAX_ANSWER`] bytes, all of it within the bound of a stall.
    pub(crate) async fn whole(&self, what: &str, answer: Response) -> Result<Bytes> {
        self.whole_within(what, answer, self.timeouts.stall).await
    }

    /// [`HttpClient::whole`] within another bound.
    pub(crate) async fn whole_within(&self, what: &str, answer: Response, bound: Duration) -> Result<Bytes> {
        let read = async {
            let mut pieces = answer.bytes_stream();
            let mut whole = BytesMut::new();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| broken(what, error))?;
                if whole.len() + piece.len() > MAX_ANSWER {
                    return Err(Error::new(Kind::Unavailable, format!("{what}: the answer is too long")));
                }
                whole.extend_from_slice(&piece);
            }
            Ok(whole.freeze())
        };
        timeout(bound, read).await.unwrap_or_else(|_| Err(late(what, "the answer stalled", bound)))
    }
}

/// Whether the connection was made and then broke before an answer came.
fn broke_off(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

fn late(what: &str, why: &str, bound: Duration) -> Error {
    Error::new(Kind::Timeout, format!("{what}: {why} within {bound:?}"))
}
