//! Servers that do on demand what no real part does, and remember what they were asked.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tests::gateway::{Gateway, overlay};
use tests::port::Port;
use tests::record::{Record, is_probe};
use tests::server::Server;

pub(crate) const REPOSITORY: &str = "o/a";

/// What a server answers.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Says {
    pub(crate) fn new(status: StatusCode, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }
}

/// A server that answers everything as it is told.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) server: Server,
    pub(crate) record: Arc<Record>,
    /// Bodies as they came, oldest first.
    pub(crate) bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Stub {
    pub(crate) fn start(
        says: impl Fn(&Method, &str) -> Says + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let (record, bodies) = (Arc::new(Record::default()), Arc::new(Mutex::new(Vec::new())));
        let (seen, kept) = (Arc::clone(&record), Arc::clone(&bodies));
        let service = service_fn(move |request: Request<Incoming>| {
            // They come whenever the gateway likes.
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

fn answer(says: Says) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(says.body));
    *response.status_mut() = says.status;
    let mut headers = HeaderMap::new();
    for (name, value) in says.headers {
        headers.append(name, HeaderValue::from_str(&value).expect("a header value"));
    }
    *response.headers_mut() = headers;
    response
}

/// Where a registry redirects to, once that is known.
pub(crate) type Location = Arc<Mutex<Option<String>>>;

/// A distribution registry with one blob, which it redirects to `location` where there is one.
pub(crate) fn registry(blob: Bytes, location: Location, more: &[(&'static str, &str)]) -> Result<Stub> {
    let digest = Digest::of(&blob).to_string();
    let more: Vec<_> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Stub::start(move |method, path| {
        let location = location.lock().clone();
        let mut says = match (method, path.ends_with(&digest), &location) {
            (&Method::HEAD, true, _) => Says::new(
                StatusCode::OK,
                &[
                    ("docker-content-digest", &digest),
                    ("content-length", &blob.len().to_string()),
                    ("content-type", "application/octet-stream"),
                ],
                Bytes::new(),
            ),
            (&Method::GET, true, Some(location)) => {
                Says::new(StatusCode::TEMPORARY_REDIRECT, &[("location", location)], Bytes::new())
            }
            (&Method::GET, true, None) => {
                Says::new(StatusCode::OK, &[("docker-content-digest", &digest)], blob.clone())
            }
            _ => Says::new(StatusCode::OK, &[], "{}"),
        };
        says.headers.extend(more.iter().cloned());
        says
    })
}

/// A gateway before it, with one zone that has nothing.
pub(crate) async fn gateway(registry: &Stub, over: &Value) -> Result<Gateway> {
    let mut config = json!({
        "registry": {"kind": "distribution", "url": registry.url()},
        "zones": {"home": ["LocalStorage", {"storage_path": "zone"}]},
    });
    overlay(&mut config, over);
    Gateway::start(&config, &[]).await
}
