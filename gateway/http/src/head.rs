//! Checks of a request's head, before the request is processed.

use http::header::{CONTENT_LENGTH, COOKIE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};

use super::{HostError, Problem, host};

/// The overhead of an HTTP/2 field besides its name and value, in bytes (RFC 9113 section 6.5.2).
const H2_FIELD: usize = 32;

/// The overhead of an HTTP/1.1 field besides its name and value, in bytes: a colon, a space and the line end.
const H1_FIELD: usize = 4;

/// Refuses a request if its head alone shows that it cannot be served correctly.
///
/// # Errors
/// - 431 if the head is larger than `max` bytes, or has more than `fields_max` fields. HTTP/2 may send each cookie in a
///   field of its own (RFC 9113 section 8.2.3), so all cookies count as one.
/// - 400 if a value starts or ends with a space or a tab (RFC 9113 section 8.2.1). An HTTP/1.1 parser removes
///   them, an HTTP/2 parser does not. The gateway and the registry would then read different credentials.
/// - 400 if several `Content-Length` fields differ (RFC 9110 section 8.6).
/// - 501 if there is a transfer coding other than one `chunked` (RFC 9112 section 6.1). The gateway removes
///   only the chunks, so the registry would store compressed bytes.
/// - 400 if the request does not name exactly one host (RFC 9112 section 3.2). HTTP/1.0 may name none.
pub fn check_head(request: &Parts, max: usize, fields_max: usize) -> Result<(), Problem> {
    check_size(request, max)?;
    check_count(&request.headers, fields_max)?;
    check_values(&request.headers)?;
    check_framing(&request.headers)?;
    match host(&request.uri, &request.headers) {
        Ok(_) => Ok(()),
        Err(HostError::Missing) if request.version < Version::HTTP_11 => Ok(()),
        Err(error) => Err(bad_request(error.to_string(), "send one Host, the name that was dialled")),
    }
}

fn check_size(request: &Parts, max: usize) -> Result<(), Problem> {
    if head_bytes(request) <= max {
        return Ok(());
    }
    Err(Problem::client(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "UNSUPPORTED",
        format!("the request's headers are larger than limits.header_bytes, {max} bytes"),
        "send fewer or shorter headers, or raise that limit",
    ))
}

fn check_count(headers: &HeaderMap, max: usize) -> Result<(), Problem> {
    let cookies = headers.get_all(COOKIE).iter().count();
    if headers.len() - cookies.saturating_sub(1) <= max {
        return Ok(());
    }
    Err(Problem::client(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "UNSUPPORTED",
        format!("the request has more header fields than limits.headers, {max}"),
        "send fewer headers, or raise that limit",
    ))
}

/// The size of a request's head, in bytes. For HTTP/1.1 this is the size on the wire without the white space
/// around values. For HTTP/2 it is the size of the header list.
fn head_bytes(request: &Parts) -> usize {
    let field = if request.version == Version::HTTP_2 { H2_FIELD } else { H1_FIELD };
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + field);
    request.method.as_str().len() + target + field + fields.sum::<usize>()
}

fn check_values(headers: &HeaderMap) -> Result<(), Problem> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    for (name, value) in headers {
        let bytes = value.as_bytes();
        if is_space(bytes.first()) || is_space(bytes.last()) {
            let why = format!("the value of the header {name} begins or ends with a space or a tab");
            return Err(bad_request(why, "send the header without white space around its value"));
        }
    }
    Ok(())
}

fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        let why = "the request has several Content-Length fields that differ".to_owned();
        return Err(bad_request(why, "send one Content-Length"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if chunked(coding) => Ok(()),
        _ => Err(Problem::client(
            StatusCode::NOT_IMPLEMENTED,
            "UNSUPPORTED",
            "the request has a transfer coding other than one chunked",
            "send the body without a transfer coding, or in chunks",
        )),
    }
}

fn bad_request(why: String, fix: &'static str) -> Problem {
    Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, fix)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request};

    use super::*;

    const MAX: usize = 4096;
    const FIELDS_MAX: usize = 10;

    fn checked(fields: &[(&'static str, &[u8])]) -> Option<StatusCode> {
        let (mut parts, ()) = Request::get("/v2/").body(()).expect("a request").into_parts();
        parts.headers.insert("host", HeaderValue::from_static("quay.example.com"));
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).expect("a value");
            parts.headers.append(HeaderName::from_static(name), value);
        }
        check_head(&parts, MAX, FIELDS_MAX).err().map(|problem| problem.status)
    }

    #[test]
    fn heads_of_ordinary_requests_pass() {
        assert_eq!(checked(&[]), None);
        let fields: [(_, &[u8]); 4] = [
            ("authorization", b"Bearer a.b.c"),
            ("accept", b"application/json, */*"),
            ("x-empty", b""),
            ("transfer-encoding", b"Chunked"),
        ];
        assert_eq!(checked(&fields), None);
        assert_eq!(checked(&[("x-long", &[b'a'; MAX])]), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }

    #[test]
    fn fields_are_counted_and_cookies_as_one() {
        // One of them is `host`.
        let fields = |count: usize, more: &[(&'static str, &'static [u8])]| {
            checked(&[&vec![("x-a", &b"1"[..]); count - 1][..], more].concat())
        };
        let cookies = [("cookie", &b"a=1"[..]); 20];
        let too_many = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(fields(FIELDS_MAX, &[]), None);
        assert_eq!(fields(FIELDS_MAX + 1, &[]), too_many);
        assert_eq!(fields(FIELDS_MAX - 1, &cookies), None);
        assert_eq!(fields(FIELDS_MAX, &cookies), too_many);
    }

    #[test]
    fn a_value_with_white_space_around_it_is_refused() {
        for value in [&b" Bearer a"[..], b"\tBearer a", b"Bearer a ", b"Bearer a\t", b" ", b"\t"] {
            for name in ["authorization", "x-anything"] {
                assert_eq!(checked(&[(name, value)]), Some(StatusCode::BAD_REQUEST), "{name}: {value:?}");
            }
        }
    }

    #[test]
    fn an_unsupported_transfer_coding_is_refused() {
        for codings in [
            &[("transfer-encoding", &b"gzip, chunked"[..])][..],
            &[("transfer-encoding", b"gzip")],
            &[("transfer-encoding", b"chunked, chunked")],
            &[("transfer-encoding", b"chunked;a=b")],
            &[("transfer-encoding", b"")],
            &[("transfer-encoding", b"gzip"), ("transfer-encoding", b"chunked")],
            &[("transfer-encoding", b"chunked"), ("transfer-encoding", b"chunked")],
        ] {
            assert_eq!(checked(codings), Some(StatusCode::NOT_IMPLEMENTED), "{codings:?}");
        }
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let lengths =
            |one: &'static [u8], other| checked(&[("content-length", one), ("content-length", other)]);
        assert_eq!(lengths(b"5", b"5"), None);
        assert_eq!(lengths(b"5", b"6"), Some(StatusCode::BAD_REQUEST));
    }
}
