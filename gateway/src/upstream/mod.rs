//! Speaking to the registry.
//!
//! hyper's client rather than reqwest: paths go on byte for byte (`_storage_proxy` compares them
//! so), and the connection goes where the configuration says, not where the name points.

mod connect;
mod stall;

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::connect::Connect;
use self::stall::Progress;
pub(crate) use self::stall::Unstalled;
use crate::config::{Settings, Timeouts};
use crate::http::{Body, BodyError, Problem, without_body};

/// Quay's nginx keeps a connection for 5 s at most; one that is older here may be closing there.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept to the registry.
const POOL_IDLE_CONNECTIONS_MAX: usize = 64;

/// The registry's client.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: Client<Connect, Body>,
    authority: Authority,
    host: HeaderValue,
    timeouts: Timeouts,
    connections: Arc<Semaphore>,
    /// Apart, so that what trickles cannot keep pulls from being allowed.
    permission_connections: Arc<Semaphore>,
}

/// What a request to the registry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The registry's word on who may read.
    Permission,
    /// Anything else.
    Any,
}

/// An answer of the registry; its body is bounded between bytes.
pub(crate) type Answer = Response<Unstalled<Incoming>>;

impl Upstream {
    /// A client for the registry of `settings`.
    ///
    /// # Errors
    /// Names in the settings that cannot stand in a request or a certificate.
    pub(crate) fn new(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let url = &settings.registry_url;
        let tls = match url.scheme() {
            "https" => {
                // The registry speaks HTTP/1.1 here: one request a connection is Quay's habit, and
                // its rate limits count HTTP/2 by connection.
                let mut tls = (*tls).clone();
                tls.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some((Arc::new(tls).into(), ServerName::try_from(settings.registry_server_name.clone())?))
            }
            _ => None,
        };
        let connect = Connect {
            host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).into(),
            port: url.port_or_known_default().unwrap_or(443),
            tls,
            timeout: settings.timeouts.registry_connect,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
            .build(connect);
        Ok(Self {
            client,
            authority: settings.registry_hostname.parse()?,
            host: HeaderValue::from_str(&settings.registry_hostname)?,
            timeouts: settings.timeouts.clone(),
            connections: Arc::new(Semaphore::new(settings.limits.registry_connections)),
            permission_connections: Arc::new(Semaphore::new(settings.limits.registry_permissions)),
        })
    }

    /// The registry's own name, as a `Host` header.
    #[must_use]
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached, 504 if it is silent for `bound`.
    pub(crate) async fn ask(
        &self,
        purpose: Purpose,
        method: Method,
        path: &PathAndQuery,
        mut headers: HeaderMap,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        // A length without its bytes would make the registry wait for the next request's.
        without_body(&mut headers);
        let connection = self.connection(purpose).await?;
        self.exchange(connection, self.request(method, path, headers)?, Body::empty(), bound).await
    }

    /// Sends a request, streaming its body; `bound` counts from its last byte.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached or breaks off, 504 if it is silent for `bound`, 408
    /// if the client does not send what it promised.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        body: Body,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        let connection = self.connection(Purpose::Any).await?;
        self.exchange(connection, self.request(method, path, headers)?, body, bound).await
    }

    async fn exchange(
        &self,
        connection: OwnedSemaphorePermit,
        request: Request<()>,
        body: Body,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        let (progress, mut sent) = watch::channel(Progress::Sending(0));
        let body =
            Body::new(Unstalled::watched(body, self.timeouts.client_stall, BodyError::Client, progress));
        let request = request.map(|()| body);
        let response = self.client.request(request);
        tokio::pin!(response);
        loop {
            let state = *sent.borrow_and_update();
            let wait = match state {
                // The registry may read nothing for as long as it may take to answer; a client that
                // sends nothing is ended by the body's own bound.
                Progress::Sending(_) => self.timeouts.client_stall + bound,
                Progress::Sent => bound,
                Progress::Broken | Progress::Stalled => self.timeouts.registry_connect,
            };
            tokio::select! {
                answer = &mut response => return match answer {
                    Ok(answer) => Ok(answer.map(|body| {
                        Unstalled::new(body, self.timeouts.registry_stall, BodyError::Registry).holding(connection)
                    })),
                    Err(error) => Err(failed(&error, *sent.borrow())),
                },
                Ok(()) = sent.changed() => {}
                () = tokio::time::sleep(wait) => {
                    return Err(unfinished(*sent.borrow()).unwrap_or_else(|| {
                        let why = format!("the registry gave no answer within {} s", wait.as_secs());
                        Problem::registry(StatusCode::GATEWAY_TIMEOUT, why)
                    }));
                }
            }
        }
    }

    /// Leave to use one more connection, kept until the answer has been read.
    async fn connection(&self, purpose: Purpose) -> Result<OwnedSemaphorePermit, Problem> {
        let (pool, name) = match purpose {
            Purpose::Permission => (&self.permission_connections, "limits.registry_permissions"),
            Purpose::Any => (&self.connections, "limits.registry_connections"),
        };
        let permit = Arc::clone(pool).acquire_owned();
        match tokio::time::timeout(self.timeouts.registry_connect, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::overload(format!("{name} are all in use"))),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
    ) -> Result<Request<()>, Problem> {
        let target = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        let uri = target.path_and_query(path.clone()).build().map_err(|_| {
            let why = "the request target is no path";
            Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, "send a path that starts with /")
        })?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What is wrong with the client's part of a request, if anything.
fn unfinished(progress: Progress) -> Option<Problem> {
    const CODE: &str = "SIZE_INVALID";
    match progress {
        Progress::Broken => {
            let why = "the request body broke off or is malformed";
            Some(Problem::client(StatusCode::BAD_REQUEST, CODE, why, "send it again, whole"))
        }
        Progress::Stalled => {
            let why = "the request body stopped coming";
            Some(Problem::client(StatusCode::REQUEST_TIMEOUT, CODE, why, "send it again, without a pause"))
        }
        Progress::Sending(_) | Progress::Sent => None,
    }
}

fn failed(error: &Error, progress: Progress) -> Problem {
    if let Some(problem) = unfinished(progress) {
        return problem;
    }
    let timed_out = sources(error).any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    });
    let causes: Vec<String> = sources(error).map(ToString::to_string).collect();
    let (status, what) = match (error.is_connect(), timed_out) {
        (true, true) => (StatusCode::GATEWAY_TIMEOUT, "the registry cannot be reached"),
        (true, false) => (StatusCode::BAD_GATEWAY, "the registry cannot be reached"),
        (false, _) => (StatusCode::BAD_GATEWAY, "the registry broke off"),
    };
    Problem::registry(status, format!("{what}: {}", causes.join(": ")))
}

fn sources(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}
