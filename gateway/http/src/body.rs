//! Bodies of requests and answers, wherever they come from.

use std::fmt;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::Stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

/// The body of a request or an answer.
pub struct Body(UnsyncBoxBody<Bytes, BodyError>);

/// Why a body was cut. The client sees an aborted transfer, never a body that is complete but too short.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The gateway could not complete the blob with the right bytes.
    #[error("blob cut: {0}")]
    Blob(String),
    /// The registry broke off, or sent no byte for too long.
    #[error("registry broke off: {0}")]
    Registry(String),
    /// The client broke off.
    #[error("client broke off: {0}")]
    Client(String),
    /// The client sends the body of its request too slowly.
    #[error("client too slow: {0}")]
    Slow(&'static str),
    /// The gateway has no memory left for the body.
    #[error("no room: {0}")]
    NoRoom(&'static str),
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// A body from bytes in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
    }

    /// A body from any other body.
    pub fn new(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(body.boxed_unsync())
    }

    /// A body from a stream of bytes.
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
