//! Logs, counts and times each request, after the whole answer was sent or the client has left.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use backends::{RequestId, X_REQUEST_ID};
use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;
use tracing::Span;

use crate::Gateway;
use crate::access_log::Record;
use crate::admin::{EndedRequest, WatchedRequest};
use crate::metrics::Source;
use crate::otlp;
use crate::request::Client;
use crate::request::ReceivedBytes;
use crate::traffic::SourceTally;
use gateway_http::{Body, BodyError, content_length};
use registry::loggable;

/// The status that is logged and counted if the client leaves before the answer. nginx uses the same status.
const CLIENT_LEFT: u16 = 499;

/// How an answer ended that was sent to its end.
const WHOLE: &str = "whole";

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
    /// The path, without secrets.
    path: String,
    route: &'static str,
    since: Instant,
    received: ReceivedBytes,
    /// What only the access log needs, if there is one.
    details: Option<Details>,
    answer: Option<SentAnswer>,
}

struct Details {
    version: Version,
    repository: Option<String>,
    user_agent: Option<HeaderValue>,
}

/// An answer that is being sent.
struct SentAnswer {
    status: u16,
    /// `Cache-Status`.
    cache: Option<HeaderValue>,
    source: Source,
    /// The counts of where the body comes from, if it is that of a blob.
    tally: Option<SourceTally>,
    /// The time to the first byte of the body, or to the head if there is no body.
    first_byte: Option<Duration>,
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
    /// Starts the record of a request that has just arrived. `route` is its name, and the repository that the request
    /// names.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        client: &Client,
        trace: RequestTrace,
        request: &Parts,
        (route, repository): (&'static str, Option<&str>),
        received: ReceivedBytes,
    ) -> Self {
        let details = gateway.access_log.is_some().then(|| Details {
            version: request.version,
            repository: repository.map(str::to_owned),
            user_agent: request.headers.get(USER_AGENT).cloned(),
        });
        Self {
            gateway: Arc::clone(gateway),
            trace,
            client: client.clone(),
            method: request.method.clone(),
            path: loggable(request.uri.path()).to_owned(),
            route,
            since: Instant::now(),
            received,
            details,
            answer: None,
        }
    }

    /// Attaches this record to the answer, and adds the request id to the answer's headers.
    pub(crate) fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(X_REQUEST_ID, self.trace.id.header().clone());
        let status = response.status().as_u16();
        self.gateway.metrics.answered(self.route, status);
        self.gateway.traffic.answered();
        let cache = response.headers().get("cache-status").cloned();
        let source = response.extensions().get().copied().unwrap_or(Source::GATEWAY);
        let tally = response.extensions_mut().remove();
        let promised = content_length(response.headers());
        response.map(|body| {
            let end = body.is_end_stream().then_some(End::Whole);
            let size = body.size_hint().exact().or(promised);
            self.answer =
                Some(SentAnswer { status, cache, source, tally, first_byte: None, sent: 0, size, end });
            if body.is_end_stream() {
                self.first_byte();
            }
            Body::new(Logged { body, access: self })
        })
    }

    /// Takes the time to the first byte, once.
    fn first_byte(&mut self) {
        if let Some(answer) = self.answer.as_mut().filter(|answer| answer.first_byte.is_none()) {
            let took = self.since.elapsed();
            answer.first_byte = Some(took);
            let times = &self.gateway.metrics.first_byte_times;
            times.observe(self.route, answer.source, took, &self.trace.id);
        }
    }

    /// Tells those who watch.
    fn tell(&mut self, took: Duration, status: u16, sent: u64, end: &'static str) {
        let Some(watched) = self.trace.watched.take() else { return };
        let cache = self.answer.as_ref().and_then(|answer| answer.cache.as_ref()?.to_str().ok());
        watched.ended(&EndedRequest {
            id: self.trace.id.as_str(),
            client: self.client.address,
            // A method may be as long as a head.
            method: loggable(self.method.as_str()),
            path: &self.path,
            route: self.route,
            status,
            cache: cache.unwrap_or("-"),
            received: self.received.load(Ordering::Relaxed),
            sent,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            end,
        });
    }

    /// Writes the line of a request that has ended, into the access log or into the log.
    fn log(&self, took: Duration, status: u16, sent: u64, end: &'static str) {
        let answer = self.answer.as_ref();
        let cache = answer.and_then(|answer| answer.cache.as_ref()?.to_str().ok()).unwrap_or("-");
        let (id, received) = (&self.trace.id, self.received.load(Ordering::Relaxed));
        let Some((log, details)) = self.gateway.access_log.as_ref().zip(self.details.as_ref()) else {
            // The line is logged outside the span, so that the id is in the same field whatever `RUST_LOG` says
            // about spans.
            return tracing::info!(
                target: "access",
                parent: None,
                request_id = id.as_str(),
                client = %self.client.address,
                method = %self.method,
                path = self.path,
                status,
                cache,
                received,
                sent,
                ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                end,
            );
        };
        let source = answer.map_or(Source::GATEWAY, |answer| answer.source);
        log.write(&Record {
            at: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            first_byte: answer.and_then(|answer| answer.first_byte),
            request_id: id.as_str(),
            trace_id: id.trace(),
            client: self.client.address,
            method: &self.method,
            path: &self.path,
            version: details.version,
            user_agent: details.user_agent.as_ref(),
            status,
            received,
            sent,
            route: self.route,
            repository: details.repository.as_deref(),
            source: &self.gateway.metrics.sources.name(source),
            cache,
            end,
        });
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        let metrics = &self.gateway.metrics;
        let (status, sent, end) = match &self.answer {
            None => {
                metrics.answered(self.route, CLIENT_LEFT);
                (CLIENT_LEFT, 0, "client left before the answer")
            }
            Some(answer) => {
                let end = match answer.end {
                    // hyper does not poll a body again after its last byte.
                    _ if answer.size == Some(answer.sent) => WHOLE,
                    Some(End::Whole) => WHOLE,
                    Some(End::Broke) => "broke off",
                    None => "client left",
                };
                (answer.status, answer.sent, end)
            }
        };
        match (end, &self.answer) {
            ("broke off", _) => metrics.answer_cut("gateway"),
            ("client left", _) => metrics.answer_cut("client"),
            (WHOLE, Some(answer)) => {
                metrics.request_times.observe(self.route, answer.source, took, &self.trace.id);
            }
            _ => {}
        }
        otlp::end_request(&self.trace.span, &self.trace.id, &self.method, &self.path, status);
        self.tell(took, status, sent, end);
        self.log(took, status, sent, end);
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
        if matches!(&item, Some(Ok(_)) | None) {
            self.access.first_byte();
        }
        if let Some(answer) = &mut self.access.answer {
            match &item {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    answer.sent += bytes as u64;
                    if let Some(tally) = &answer.tally {
                        tally.sent(bytes);
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
