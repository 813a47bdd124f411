//! What a store's answer, or the lack of one, means. The one place where that is decided.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::{Error, Kind};

/// The longest pause a store can ask for; what asks for more is not believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The error of a request that got no answer, or whose answer's body broke.
pub(crate) fn broken(what: &str, error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() {
        Kind::Timeout
    } else if error.is_builder() {
        Kind::Invalid
    } else {
        Kind::Unavailable
    };
    // The URL may be signed.
    Error::new(kind, what).with_cause(error.without_url())
}

/// The error of an answer that is not a success.
///
/// `code` is the server's own, from the body, where there was one.
pub(crate) fn refused(what: &str, status: StatusCode, headers: &HeaderMap, code: Option<&str>) -> Error {
    let kind = meaning(status, code, retry_after(headers, SystemTime::now()));
    Error::new(kind, what).with_code(code.map_or_else(|| status.as_u16().to_string(), str::to_owned))
}

fn meaning(status: StatusCode, code: Option<&str>, retry_after: Option<Duration>) -> Kind {
    match code.unwrap_or_default() {
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" => {
            return Kind::Throttled { retry_after };
        }
        "NoSuchBucket"
        | "AuthorizationHeaderMalformed"
        | "ExpiredToken"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "SignatureDoesNotMatch" => return Kind::Denied,
        "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest" => return Kind::Corrupt,
        // The server waited for our bytes or lost them: 400, and yet worth another try.
        "RequestTimeout" | "IncompleteBody" | "InternalError" => return Kind::Unavailable,
        _ => {}
    }
    match status {
        // Swift's words for "too many requests" and "the client left in mid-request".
        _ if status.as_u16() == 498 => Kind::Throttled { retry_after },
        _ if status.as_u16() == 499 => Kind::Unavailable,
        StatusCode::TOO_MANY_REQUESTS => Kind::Throttled { retry_after },
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Kind::Throttled { retry_after },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::REQUEST_TIMEOUT => Kind::Timeout,
        _ if status.is_server_error() => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// `Retry-After` in either of its forms (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let second = Some(Duration::from_secs(1));
        for (status, code, pause, expected) in [
            (403, Some("AccessDenied"), None, Kind::Denied),
            (403, Some("RequestTimeTooSkewed"), None, Kind::Denied),
            (401, None, None, Kind::Denied),
            (404, Some("NoSuchBucket"), None, Kind::Denied),
            (400, Some("AuthorizationHeaderMalformed"), None, Kind::Denied),
            (503, Some("SlowDown"), None, Kind::Throttled { retry_after: None }),
            (503, None, second, Kind::Throttled { retry_after: second }),
            (503, None, None, Kind::Unavailable),
            (429, None, None, Kind::Throttled { retry_after: None }),
            (498, None, second, Kind::Throttled { retry_after: second }),
            (499, None, None, Kind::Unavailable),
            (500, Some("InternalError"), None, Kind::Unavailable),
            (200, Some("InternalError"), None, Kind::Unavailable),
            (502, None, None, Kind::Unavailable),
            (400, Some("XAmzContentSHA256Mismatch"), None, Kind::Corrupt),
            (400, Some("RequestTimeout"), None, Kind::Unavailable),
            (408, None, None, Kind::Timeout),
            (301, Some("PermanentRedirect"), None, Kind::Invalid),
            (416, Some("InvalidRange"), None, Kind::Invalid),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(meaning(status, code, pause), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn retry_after_in_both_forms_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("999999999", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
