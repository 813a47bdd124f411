//! Answers of the admin API.

use gateway_http::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::problem::Problem;

/// The answer to a request, or why there is none.
pub(super) type Answer = Result<Response<Body>, Problem>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Answer {
    // Numbers, strings and lists of them can always be written as JSON, except infinities. Times and rates are
    // never infinite.
    json_text(serde_json::to_string_pretty(value).unwrap_or_default() + "\n")
}

/// A text that is JSON already.
pub(super) fn json_text(text: impl Into<bytes::Bytes>) -> Answer {
    Ok(respond(StatusCode::OK, JSON, text))
}

/// One line of text.
pub(super) fn text(status: StatusCode, line: &'static str) -> Answer {
    Ok(respond(status, TEXT, line))
}

/// An answer with a media type.
pub(super) fn respond(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
