//! The stream of one subscriber: server-sent events (HTML, section 9.2).

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gateway_http::{Body, BodyError};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{SUBSCRIBERS_MAX, Seat, snapshot};
use crate::Gateway;
use crate::admin::answer::Answer;
use crate::admin::problem::Problem;

/// How soon a subscriber whose connection broke comes again.
const RECONNECT: &str = "retry: 2000\n\n";

/// The media type of the stream.
const EVENT_STREAM: &str = "text/event-stream";

/// Subscribes. The stream begins with a snapshot and the latest events.
pub(in crate::admin) fn subscribe(gateway: &Gateway) -> Answer {
    let seat = gateway.live.sit().ok_or_else(|| {
        let detail = format!("{SUBSCRIBERS_MAX} subscribers are connected, and there are no more places");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_subscribers", detail)
    })?;
    // Subscribed first: an event in between comes twice, and is not missed. Each has an id.
    let frames = gateway.live.frames.subscribe();
    let mut first =
        vec![Bytes::from_static(RECONNECT.as_bytes()), frame("snapshot", &snapshot::snapshot(gateway))];
    first.extend(gateway.live.events.lock().all().map(|event| frame("event", event)));
    let mut response = Response::new(body(seat, first, frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn body(seat: Seat, first: Vec<Bytes>, frames: Receiver<Bytes>) -> Body {
    let later = stream::unfold((seat, frames), |(seat, mut frames)| async move {
        let frame = match frames.recv().await {
            Ok(bytes) => bytes,
            Err(RecvError::Lagged(count)) => frame("missed", &Missed { frames: count }),
            Err(RecvError::Closed) => return None,
        };
        Some((frame, (seat, frames)))
    });
    Body::stream(stream::iter(first).chain(later).map(Ok::<_, BodyError>))
}

/// Tells a subscriber that was too slow how much it missed.
#[derive(Debug, Serialize)]
struct Missed {
    frames: u64,
}

/// One event of the stream.
pub(super) fn frame<T: Serialize>(event: &str, data: &T) -> Bytes {
    // Numbers, strings and lists of them can always be written as JSON, except infinities. Times and rates are never
    // infinite. JSON without indents has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::super::{FRAMES_MAX, Live};
    use super::*;

    async fn next(body: &mut Body) -> String {
        let frame = body.frame().await.expect("a frame").expect("no error");
        String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed() {
        let live = Arc::new(Live::new());
        let (seat, frames) = (live.sit().expect("a place"), live.frames.subscribe());
        let mut body = body(seat, vec![frame("snapshot", &0)], frames);
        assert_eq!(next(&mut body).await, "event: snapshot\ndata: 0\n\n");
        for number in 0..FRAMES_MAX + 3 {
            live.send("request", &number);
        }
        assert_eq!(next(&mut body).await, "event: missed\ndata: {\"frames\":3}\n\n");
        assert_eq!(next(&mut body).await, "event: request\ndata: 3\n\n");
        assert!(live.is_watched());
        drop(body);
        assert!(!live.is_watched(), "its place is free again");
    }

    #[test]
    fn line_breaks_do_not_end_an_event() {
        assert_eq!(frame("event", &"a\n\nb\r"), "event: event\ndata: \"a\\n\\nb\\r\"\n\n");
    }
}
