//! What all HTTP drivers share: TLS, timeouts, and one HTTP client for each store.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credentials::Http;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::header::{ETAG, USER_AGENT};
use reqwest::{Request, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::answer::broken;
use crate::headers::{Ends, ReturnedPart, part_of_answer};
use crate::proxy::{ProxyFault, ProxyRules, Route};
use crate::request_id::name_request;
use crate::resolver::Resolver;
use crate::upload::Upload;
use crate::user_agent::user_agent;
use crate::{ByteStream, Error, Kind, Object, PemError, Result};

/// The number of idle connections that are kept per store. It suffices for the concurrent readers of a
/// rollout.
const IDLE_CONNECTIONS: usize = 64;

/// How long an idle connection is kept. Stores and load balancers close idle connections after 20 to 75 s.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The longest answer that is read as a whole, in bytes: an error, or a page of a listing.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A store may take this many times `first_byte` to make a write durable.
const WRITE_FACTOR: u32 = 6;

/// The timeouts of one store. No timeout covers a whole body, because a large blob on a slow line is not a
/// fault.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the TCP connection and its TLS handshake.
    pub connect: Duration,
    /// From the request to the headers of the answer. After the last byte of a write, six times this.
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
    /// From the last byte of a write to the headers of the answer.
    #[must_use]
    pub fn written(&self) -> Duration {
        self.first_byte * WRITE_FACTOR
    }
}

/// What a driver needs for HTTP: the common TLS policy and the timeouts.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Root certificates and protocol versions: the TLS policy of the caller.
    pub tls: Arc<rustls::ClientConfig>,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Which requests go through a proxy.
    pub proxies: Arc<ProxyRules>,
    /// Tasks that outlive the call that started them, such as the abort of an unfinished upload. Before the
    /// process ends, its owner closes this tracker and waits for the tasks, up to a bound.
    pub tidying: TaskTracker,
}

impl Transport {
    /// A transport without any background task and without a proxy.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>, timeouts: Timeouts) -> Self {
        Self { tls, timeouts, proxies: Arc::default(), tidying: TaskTracker::new() }
    }

    /// A copy of this transport that trusts only the root certificates in a PEM file, like Python's
    /// `requests` with `verify=<file>`. The protocol versions are the provider's safe defaults.
    pub(crate) fn trusting_only(&self, file: &Path) -> Result<Self> {
        let unusable = |why: &str| {
            let what = format!("read root certificates from {}: {why}", file.display());
            Error::new(Kind::Invalid, what)
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable("PEM is expected").with_cause(PemError::from(error)))?;
        let mut roots = rustls::RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(unusable("the file contains no usable certificate"));
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(self.tls.crypto_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("no protocol").with_cause(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), ..self.clone() })
    }

    /// A new HTTP client. Each store has its own, so that no store waits for another store's connections.
    pub(crate) fn client(&self) -> Result<HttpClient> {
        // Several TCP connections transfer large bodies faster than one HTTP/2 connection with flow control.
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let resolver = Resolver::default();
        let client = reqwest::Client::builder()
            .dns_resolver(resolver.clone())
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME);
        let client = self.proxies.applied_to(client).build();
        let client = client.map_err(|error| broken("make an HTTP client", error))?;
        Ok(HttpClient { client, resolver, timeouts: self.timeouts, proxies: Arc::clone(&self.proxies) })
    }

    /// The HTTP client through which credentials are fetched. It is separate from that of the store, so that the
    /// store's requests do not wait for its connections.
    pub(crate) fn credentials_client(&self) -> Result<impl Http + 'static> {
        let near = Self { proxies: Arc::default(), ..self.clone() }.client()?;
        Ok(CredentialsClient { any: self.client()?, near })
    }
}

/// An HTTP client with the timeouts of one store.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    resolver: Resolver,
    timeouts: Timeouts,
    proxies: Arc<ProxyRules>,
}

impl HttpClient {
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request to the address of its host, or of its proxy, that answers first.
    async fn execute(&self, request: Request) -> reqwest::Result<Response> {
        let url = request.url().clone();
        let dialled = self.proxies.of(&url).map_or(&url, |proxy| proxy.url());
        self.resolver.expect(dialled);
        let answer = self.client.execute(request).await;
        if answer.as_ref().is_err_and(reqwest::Error::is_connect) {
            self.resolver.unconnected(dialled);
        }
        answer
    }

    /// Sends a request whose body, if it has one, is in memory. The headers of the answer must arrive within
    /// `bound`.
    ///
    /// If the connection breaks before the answer, an idempotent request is repeated once. The usual cause is
    /// a server that has just closed an idle connection, which is no sign of a fault.
    pub(crate) async fn send(&self, what: &str, mut request: Request, bound: Duration) -> Result<Response> {
        say_who_asks(&mut request);
        let route = Route::new(&self.proxies, request.url());
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
            Ok(Ok(answer)) => by_server(what, &route, answer),
            Ok(Err(error)) => Err(no_answer(what, &route, error)),
            Err(_) => Err(late(&with(what, route.behind()), "no answer", bound)),
        }
    }

    /// Sends a request with a streamed body, and bounds each step.
    ///
    /// # Errors
    /// The error of the body, or else the error of the connection. The second field of `Err` says whether the
    /// connection broke during the request. If it did, the store may have sent an answer that was lost.
    pub(crate) async fn upload(
        &self,
        what: &str,
        mut request: Request,
        upload: Upload,
    ) -> Result<Response, (Error, bool)> {
        let (body, progress) = upload.into_body(what);
        *request.body_mut() = Some(body);
        say_who_asks(&mut request);
        let route = Route::new(&self.proxies, request.url());
        let mut sent = std::pin::pin!(self.execute(request));
        loop {
            let (deadline, _) = progress.deadline(&self.timeouts);
            tokio::select! {
                answer = &mut sent => {
                    return match (answer, progress.take_error()) {
                        (_, Some(error)) => Err((error, false)),
                        // This answer does not count, whatever the store has stored: the rest of the body was
                        // not sent and may never be verified.
                        (Ok(answer), None) if answer.status().is_success() && !progress.is_sent() => {
                            let early = format!("{what}: a success before everything was sent");
                            Err((Error::new(Kind::Unavailable, early), false))
                        }
                        (Ok(answer), None) => by_server(what, &route, answer).map_err(|error| (error, false)),
                        (Err(error), None) => {
                            let unknown = broke_off(&error);
                            Err((no_answer(what, &route, error), unknown))
                        }
                    };
                }
                () = sleep_until(deadline) => {
                    // The deadline may have moved meanwhile, and with it the kind of the error.
                    let (deadline, overdue) = progress.deadline(&self.timeouts);
                    if deadline <= Instant::now() {
                        let what = with(what, route.behind());
                        return Err((Error::new(overdue, format!("{what}: no progress")), false));
                    }
                }
            }
        }
    }

    /// The object in a successful answer to a GET. `asked` is `None` for the whole object.
    pub(crate) fn object(
        &self,
        what: String,
        asked: Option<&Range<u64>>,
        answer: Response,
    ) -> Result<Object> {
        let ReturnedPart { range, size, ends } =
            part_of_answer(&what, asked, answer.status(), answer.headers())?;
        let version = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let body = self.body(what, answer, range.end - range.start, ends);
        Ok(Object { size, range, body, version })
    }

    /// The body of an answer. It has exactly `length` bytes or ends in an error, except if the answer named
    /// no length.
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
                    Ok(None) if left == 0 || ends == Ends::Unknown => return Ok(None),
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

    /// Reads a short answer as a whole: at most [`MAX_ANSWER`] bytes, all of them within the stall timeout.
    pub(crate) async fn read_whole(&self, what: &str, answer: Response) -> Result<Bytes> {
        self.read_whole_within(what, answer, self.timeouts.stall).await
    }

    /// Like [`HttpClient::read_whole`], with another timeout.
    pub(crate) async fn read_whole_within(
        &self,
        what: &str,
        answer: Response,
        bound: Duration,
    ) -> Result<Bytes> {
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

/// Fetches credentials.
#[derive(Debug)]
struct CredentialsClient {
    any: HttpClient,
    /// Without a proxy.
    near: HttpClient,
}

#[async_trait]
impl Http for CredentialsClient {
    async fn send(&self, what: &str, request: Request, bound: Duration) -> Result<Response> {
        self.any.send(what, request, bound).await
    }

    async fn send_near(&self, what: &str, request: Request, bound: Duration) -> Result<Response> {
        self.near.send(what, request, bound).await
    }

    async fn read_whole(&self, what: &str, answer: Response, bound: Duration) -> Result<Bytes> {
        self.any.read_whole_within(what, answer, bound).await
    }

    fn answer_bound(&self) -> Duration {
        self.any.timeouts.first_byte
    }

    fn body_bound(&self) -> Duration {
        self.any.timeouts.stall
    }
}

/// Sets the headers that name the sender of a request, and the client's request for which it is sent. They are not
/// signed: no store demands or forbids that.
fn say_who_asks(request: &mut Request) {
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, user_agent());
    name_request(headers);
}

/// Whether the connection was made and then broke before an answer arrived.
fn broke_off(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// What was attempted, and what a proxy has to do with its failure.
fn with(what: &str, fault: Option<ProxyFault>) -> String {
    fault.map_or_else(|| what.to_owned(), |fault| format!("{what}: {fault}"))
}

fn no_answer(what: &str, route: &Route, error: reqwest::Error) -> Error {
    broken(&with(what, route.fault(&error)), error)
}

/// The answer, unless a proxy gave it instead of the server.
fn by_server(what: &str, route: &Route, answer: Response) -> Result<Response> {
    match route.answered_itself(answer.status(), answer.headers()) {
        Some(fault) => Err(Error::new(Kind::Unavailable, with(what, Some(fault)))),
        None => Ok(answer),
    }
}

fn late(what: &str, why: &str, bound: Duration) -> Error {
    Error::new(Kind::Timeout, format!("{what}: {why} within {bound:?}"))
}
