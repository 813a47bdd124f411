//! Servers that answer as the test says, and record their requests.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use harness::gateway::{Gateway, overlay};
use harness::port::Port;
use harness::record::{Record, is_probe};
use harness::server::Server;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use parking_lot::Mutex;
use serde_json::{Value, json};

pub(crate) const REPOSITORY: &str = "o/a";

/// The answer of a server.
#[derive(Debug, Clone)]
pub(crate) struct StubAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl StubAnswer {
    pub(crate) fn new(status: StatusCode, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }
}

/// A server that gives the same kind of answer to everything.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) server: Server,
    pub(crate) record: Arc<Record>,
    /// The bodies of the requests, oldest first.
    pub(crate) bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Stub {
    pub(crate) fn start(
        says: impl Fn(&Method, &str) -> StubAnswer + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let (record, bodies) = (Arc::new(Record::default()), Arc::new(Mutex::new(Vec::new())));
        let (seen, kept) = (Arc::clone(&record), Arc::clone(&bodies));
        let service = service_fn(move |request: Request<Incoming>| {
            // Probes arrive at any time, so they are not recorded.
            let probe = is_probe(request.headers());
            if !probe {
                seen.note(&request);
            }
            let (says, kept) = (says(request.method(), request.uri().path()), Arc::clone(&kept));
            async move {
                let body =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                if !probe {
                    kept.lock().push(body);
                }
                Ok::<_, Infallible>(answer(says))
            }
        });
        Ok(Self { server: Server::start(Port::free()?, None, service)?, record, bodies })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

fn answer(says: StubAnswer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(says.body));
    *response.status_mut() = says.status;
    let mut headers = HeaderMap::new();
    for (name, value) in says.headers {
        headers.append(name, HeaderValue::from_str(&value).expect("a header value"));
    }
    *response.headers_mut() = headers;
    response
}

/// The target of the registry's redirects, which may be set later.
pub(crate) type Location = Arc<Mutex<Option<String>>>;

/// A distribution registry with one blob. If `location` is set, it redirects there.
pub(crate) fn registry(blob: Bytes, location: Location, more: &[(&'static str, &str)]) -> Result<Stub> {
    let digest = Digest::of(&blob).to_string();
    let more: Vec<_> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Stub::start(move |method, path| {
        let location = location.lock().clone();
        let mut says = match (method, path.ends_with(&digest), &location) {
            (&Method::HEAD, true, _) => StubAnswer::new(
                StatusCode::OK,
                &[
                    ("docker-content-digest", &digest),
                    ("content-length", &blob.len().to_string()),
                    ("content-type", "application/octet-stream"),
                ],
                Bytes::new(),
            ),
            (&Method::GET, true, Some(location)) => {
                StubAnswer::new(StatusCode::TEMPORARY_REDIRECT, &[("location", location)], Bytes::new())
            }
            (&Method::GET, true, None) => {
                StubAnswer::new(StatusCode::OK, &[("docker-content-digest", &digest)], blob.clone())
            }
            _ => StubAnswer::new(StatusCode::OK, &[], "{}"),
        };
        says.headers.extend(more.iter().cloned());
        says
    })
}

/// A gateway in front of it, with one empty zone.
pub(crate) async fn gateway(registry: &Stub, over: &Value) -> Result<Gateway> {
    let mut config = json!({
        "registry": {"kind": "distribution", "url": registry.url()},
        "zones": {"home": ["LocalStorage", {"storage_path": "zone"}]},
    });
    overlay(&mut config, over);
    Gateway::start(&config, &[]).await
}
