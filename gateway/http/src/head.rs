//! A request's head, before anything is made of it.

use http::request::Parts;
use http::{StatusCode, Version};

use super::{HostError, Problem, host};

/// What an HTTP/2 field counts beyond its name and value (RFC 9113 section 6.5.2).
const H2_FIELD: usize = 32;

/// What an HTTP/1.1 field has beyond them: a colon, a space, the end of its line.
const H1_FIELD: usize = 4;

/// Bytes of a request's head: as it was on the wire in HTTP/1.1, but for spaces around values; as HTTP/2
/// counts a header list.
fn head_bytes(request: &Parts) -> usize {
    let field = if request.version == Version::HTTP_2 { H2_FIELD } else { H1_FIELD };
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + field);
    request.method.as_str().len() + target + field + fields.sum::<usize>()
}

/// Why a request is refused by its head alone: it is larger than `max` bytes, or does not say which host it is
/// for (RFC 9112 section 3.2; HTTP/1.0 need not).
///
/// # Errors
/// 431 or 400.
pub fn check_head(request: &Parts, max: usize) -> Result<(), Problem> {
    if head_bytes(request) > max {
        return Err(Problem::client(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "UNSUPPORTED",
            format!("the request's headers are larger than limits.header_bytes, {max} bytes"),
            "send fewer or shorter headers, or raise that limit",
        ));
    }
    match host(&request.uri, &request.headers) {
        Ok(_) => Ok(()),
        Err(HostError::Missing) if request.version < Version::HTTP_11 => Ok(()),
        Err(error) => Err(Problem::client(
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
            error.to_string(),
            "send one Host, the name that was dialled",
        )),
    }
}
