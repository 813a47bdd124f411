//! One line of the log for each request, once all of its answer is gone, or its client is.

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
use crate::request::Client;
use crate::request::Received;
use gateway_http::{Body, BodyError, content_length};

/// What is logged and counted of a request whose client left before its answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// The id of a request, and the span of what is done for it.
pub(super) struct Named {
    pub(super) id: RequestId,
    pub(super) span: Span,
}

/// A request under way. However it ends, it is logged and counted once.
pub(crate) struct Access {
    gateway: Arc<Gateway>,
    named: Named,
    /// Holds one of `limits.requests` until the answer is gone.
    client: Client,
    method: Method,
    /// As it may stand in a log.
    path: String,
    route: &'static str,
    since: Instant,
    received: Received,
    answer: Option<Answered>,
}

/// An answer on its way.
struct Answered {
    status: u16,
    cache: String,
    /// Bytes of its body that went out.
    sent: u64,
    /// Bytes that it has, where that is known: of itself, or as its headers promise.
    size: Option<u64>,
    end: Option<End>,
}

/// How an answer's body came to its end.
enum End {
    Whole,
    Broke,
}

impl Access {
    /// A request that has just come.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        client: &Client,
        named: Named,
        method: &Method,
        path: &str,
        route: &'static str,
        received: Received,
    ) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            named,
            client: client.clone(),
            method: method.clone(),
            path: path.to_owned(),
            route,
            since: Instant::now(),
            received,
            answer: None,
        }
    }

    /// The answer, which takes this along and says the request's id.
    pub(crate) fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(X_REQUEST_ID, self.named.id.header().clone());
        let status = response.status().as_u16();
        self.gateway.metrics.answered(self.route, status);
        let cache = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
        let cache = cache.unwrap_or("-").to_owned();
        let promised = content_length(response.headers());
        response.map(|body| {
            let end = body.is_end_stream().then_some(End::Whole);
            let size = body.size_hint().exact().or(promised);
            self.answer = Some(Answered { status, cache, sent: 0, size, end });
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
                    // A body whose last byte went out is not asked for its end.
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
        // The line has no span, so that the id is in one place whatever `RUST_LOG` says of spans.
        tracing::info!(
            target: "access",
            parent: None,
            request_id = self.named.id.as_str(),
            client = %self.client.address,
            method = %self.method,
            path = self.path,
            status,
            cache,
            received = self.received.load(Ordering::Relaxed),
            sent,
            ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
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
        // What goes on at a zone while the body is sent belongs to the request too.
        let Named { id, span } = &this.access.named;
        let polled = id.enter(|| span.in_scope(|| Pin::new(&mut this.body).poll_frame(context)));
        let item = ready!(polled);
        let ended = self.body.is_end_stream();
        if let Some(answer) = &mut self.access.answer {
            match &item {
                Some(Ok(frame)) => {
                    answer.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
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
