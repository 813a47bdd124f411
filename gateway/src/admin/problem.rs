//! Errors of the admin API: problem details (RFC 9457), with a word for programs and whether to retry.

use gateway_http::Body;
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use replication::JournalError;
use serde::Serialize;

use super::access::Refusal;
use super::routes::PREFIX;

/// The media type of problem details.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    /// A word for programs, such as `unknown_zone`.
    code: &'static str,
    /// A sentence for people.
    detail: String,
    /// The methods of the path, if the request has another one.
    allow: Option<String>,
}

/// The members of problem details. `type` is `about:blank` if it is absent.
#[derive(Debug, Serialize)]
struct ProblemDetails<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    retry: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), allow: None }
    }

    /// 400.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 409.
    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 404 for a zone.
    pub(super) fn unknown_zone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_zone", detail)
    }

    /// 404 for a path.
    pub(super) fn unknown_path() -> Self {
        let detail = format!("there is no such path: {PREFIX}/openapi.json lists all");
        Self::new(StatusCode::NOT_FOUND, "unknown_path", detail)
    }

    /// 405. `allow` lists the methods of the path.
    pub(super) fn method(allow: String) -> Self {
        let detail = format!("this path has {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// Whether the same request may succeed later without a change by the caller.
    fn is_passing(&self) -> bool {
        matches!(
            self.status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        )
    }

    pub(super) fn response(self) -> Response<Body> {
        let details = ProblemDetails {
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            retry: self.is_passing(),
        };
        // Strings, a number and a bool can always be written as JSON.
        let body = serde_json::to_string(&details).unwrap_or_default() + "\n";
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Methods are visible ASCII.
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.code(), refusal.to_string())
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "journal_unavailable", error.to_string())
    }
}
