//! A server that computes its answers with a function and handles requests concurrently.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// Takes its time, inside a function that computes an answer.
#[expect(
    clippy::disallowed_methods,
    reason = "the scripted server is slow; nobody waits for something by it"
)]
pub fn slow_answer(time: Duration) {
    std::thread::sleep(time);
}

/// A complete request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// The path and the query.
    pub path: String,
    headers: http::HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a text"))
    }

    /// The `Credential` of the signature: key/date/region/service/aws4_request.
    pub fn credential(&self) -> Vec<String> {
        let signature = self.header("authorization").unwrap_or_default();
        let (_, rest) = signature.split_once("Credential=").unwrap_or_default();
        rest.split(',').next().unwrap_or_default().split('/').map(str::to_owned).collect()
    }

    /// The access key of the signature.
    pub fn key(&self) -> String {
        self.credential().swap_remove(0)
    }

    /// A field of a form in the body.
    pub fn field(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(&self.body)
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

pub fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

impl Reply {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Debug)]
pub struct Service {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    /// Starts the server. `answer` may block its thread, so that a test can make a service slow.
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                    let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        let path = head.uri.path_and_query().expect("a path").as_str().to_owned();
                        let method = head.method.as_str().to_owned();
                        let asked = Asked { method, path, headers: head.headers, body };
                        seen.lock().push(asked.clone());
                        let reply =
                            tokio::task::spawn_blocking(move || answer(&asked)).await.expect("an answer");
                        let mut response = http::Response::builder().status(reply.status);
                        for (name, value) in &reply.headers {
                            response = response.header(*name, value);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(reply.body))).expect("fits"))
                    }
                });
                tokio::spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, asked }
    }

    /// The requests so far for which `fits` is true.
    pub fn asked(&self, fits: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| fits(asked)).cloned().collect()
    }

    /// The requests so far whose path starts with `path`.
    pub fn below(&self, path: &str) -> Vec<Asked> {
        self.asked(|asked| asked.path.starts_with(path))
    }
}
