//! Writes one log line for each request, after the whole answer was sent or the client has left.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use backends::{RequestId, X_REQUEST_ID};
use bytes::Bytes;
use http::{Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;
use tracing::Span;

use crate::Gateway;
use crate::admin::{EndedRequest, WatchedRequest};
use crate::request::Client;
use crate::request::ReceivedBytes;
use crate::traffic::SourceTally;
use gateway_http::{Body, BodyError, content_length};

/// The status that is logged and counted if the client leaves before the answer. nginx uses the same status.
const CLIENT_LEFT: u16 = 499;

/// The id of a request, and the span of the work for it.
pub(super) struct RequestTrace {
    pub(super) id: RequestId,
    pub(super) span: Span,
    /// Present if somebody watches requests.
    pub(super) watched: Option<WatchedRequest>,
}

/// A request in progress. It is logged and counted exactly once, however it ends.
pub(crate) struct Access {
    gateway: Arc<Gateway>,
    trace: RequestTrace,
    /// Holds a slot of `limits.requests` until the answer was sent.
    client: Client,
    method: Method,
    /// The path, escaped for the log.
    path: String,
    route: &'static str,
    since: Instant,
    received: ReceivedBytes,
    answer: Option<SentAnswer>,
}

/// An answer that is being sent.
struct SentAnswer {
    status: u16,
    cache: String,
    /// The counts of where the body comes from, if it is that of a blob.
    source: Option<SourceTally>,
    /// The number of body bytes that were sent.
    sent: u64,
    /// The size of the body, if it is known from the body itself or from the headers.
    size: Option<u64>,
    end: Option<End>,
}

/// How the body of an answer ended.
enum End {
    Whole,
    Broke,
}

impl Access {
    /// Starts the record of a request that has just arrived.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        client: &Client,
        trace: RequestTrace,
        method: &Method,
        path: &str,
        route: &'static str,
        received: ReceivedBytes,
    ) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            trace,
            client: client.clone(),
            method: method.clone(),
            path: path.to_owned(),
            route,
            since: Instant::now(),
            received,
            answer: None,
        }
    }

    /// Attaches this record to the answer, and adds the request id to the answer's headers.
    pub(crate) fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(X_REQUEST_ID, self.trace.id.header().clone());
        let status = response.status().as_u16();
        self.gateway.metrics.answered(self.route, status);
        self.gateway.traffic.answered();
        let source = response.extensions_mut().remove();
        let cache = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
        let cache = cache.unwrap_or("-").to_owned();
        let promised = content_length(response.headers());
        response.map(|body| {
            let end = body.is_end_stream().then_some(End::Whole);
            let size = body.size_hint().exact().or(promised);
            self.answer = Some(SentAnswer { status, cache, source, sent: 0, size, end });
            Body::new(Logged { body, access: self })
        })
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let (status, cache, sent, end) = match &self.answer {
            None => {
                self.gateway.metrics.answered(self.route, CLIENT_LEFT);
                (CLIENT_LEFT, "-", 0, "client left before the answer")
            }
            Some(answer) => {
                let end = match answer.end {
                    // hyper does not poll a body again after its last byte.
                    _ if answer.size == Some(answer.sent) => "whole",
                    Some(End::Whole) => "whole",
                    Some(End::Broke) => "broke off",
                    None => "client left",
                };
                (answer.status, &*answer.cache, answer.sent, end)
            }
        };
        match end {
            "broke off" => self.gateway.metrics.answer_cut("gateway"),
            "client left" => self.gateway.metrics.answer_cut("client"),
            _ => {}
        }
        let (received, elapsed) = (self.received.load(Ordering::Relaxed), self.since.elapsed());
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if let Some(watched) = self.trace.watched.take() {
            watched.ended(&EndedRequest {
                id: self.trace.id.as_str(),
                client: self.client.address,
                method: self.method.as_str(),
                path: &self.path,
                route: self.route,
                status,
                cache,
                received,
                sent,
                milliseconds,
                end,
            });
        }
        // The line is logged outside the span, so that the id is in the same field whatever `RUST_LOG` says
        // about spans.
        tracing::info!(
            target: "access",
            parent: None,
            request_id = self.trace.id.as_str(),
            client = %self.client.address,
            method = %self.method,
            path = self.path,
            status,
            cache,
            received,
            sent,
            ms = milliseconds,
            end,
        );
    }
}

struct Logged {
    body: Body,
    access: Access,
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        // Events at a zone while the body is sent belong to this request too.
        let RequestTrace { id, span, .. } = &this.access.trace;
        let polled = id.enter(|| span.in_scope(|| Pin::new(&mut this.body).poll_frame(context)));
        let item = ready!(polled);
        let ended = self.body.is_end_stream();
        if let Some(answer) = &mut self.access.answer {
            match &item {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    answer.sent += bytes as u64;
                    if let Some(source) = &answer.source {
                        source.sent(bytes);
                    }
                    if ended {
                        answer.end = Some(End::Whole);
                    }
                }
                Some(Err(_)) => answer.end = Some(End::Broke),
                None => answer.end = Some(End::Whole),
            }
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
