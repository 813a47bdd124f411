//! Bodies of answers, whatever they come from.

use std::fmt;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::Stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

/// The body of an answer.
pub struct Body(UnsyncBoxBody<Bytes, BodyError>);

/// Why a body was cut. The client sees a broken transfer, never a short whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The blob could not be completed with the right bytes.
    #[error("blob cut: {0}")]
    Blob(String),
    /// The registry broke off or stalled.
    #[error("registry broke off: {0}")]
    Registry(String),
    /// The client broke off.
    #[error("client broke off: {0}")]
    Client(String),
    /// The client sends its request's body too slowly.
    #[error("client too slow: {0}")]
    Slow(&'static str),
    /// The gateway has no memory to go on with it.
    #[error("no room: {0}")]
    NoRoom(&'static str),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// Bytes in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
    }

    /// Any other body.
    pub fn new(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(body.boxed_unsync())
    }

    /// Bytes as they come.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}
