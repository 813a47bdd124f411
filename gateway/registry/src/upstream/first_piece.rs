//! Waits for the first piece of a request body. No connection is used for a request that has nothing to send
//! yet.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use gateway_http::{Body, BodyError};

/// Waits for the first piece of a body that is not empty, or for the body's end. A body that ends before that
/// is empty, even if it ends with trailers, which are not passed on.
///
/// # Errors
/// The client broke off or was too slow before the first piece.
pub(super) async fn with_first_piece(mut body: Body) -> Result<Body, BodyError> {
    loop {
        if http_body::Body::is_end_stream(&body) {
            return Ok(body);
        }
        let Some(first) = body.frame().await.transpose()? else { return Ok(Body::empty()) };
        match first.data_ref() {
            Some(data) if data.is_empty() => {}
            Some(_) => return Ok(Body::new(WithFirstPiece { first: Some(first), rest: body })),
            None => return Ok(Body::empty()),
        }
    }
}

struct WithFirstPiece {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for WithFirstPiece {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn the_body_stays_the_same() {
        let body = with_first_piece(Body::full("layer")).await.expect("no error");
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.expect("no error").to_bytes(), "layer");
        assert!(with_first_piece(Body::empty()).await.expect("no error").is_end_stream());
    }

    fn of_frames(frames: Vec<Frame<Bytes>>) -> Body {
        Body::new(StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))))
    }

    #[tokio::test]
    async fn empty_pieces_and_trailers_do_not_count_as_first_piece() {
        let empty = || Frame::data(Bytes::new());
        let trailers =
            || Frame::trailers([(http::header::ETAG, "a".parse().expect("a value"))].into_iter().collect());
        for frames in [vec![empty()], vec![empty(), empty()], vec![trailers()], vec![empty(), trailers()]] {
            let count = frames.len();
            let body = with_first_piece(of_frames(frames)).await.expect("no error");
            assert!(body.is_end_stream(), "{count}");
            assert_eq!(body.size_hint().exact(), Some(0), "{count}");
        }
        let frames = vec![empty(), Frame::data(Bytes::from_static(b"a")), empty(), trailers()];
        let body = with_first_piece(of_frames(frames)).await.expect("no error");
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.expect("no error").to_bytes(), "a");
    }
}
