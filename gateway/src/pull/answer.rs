//! The answers to a blob request, header by header.

use std::ops::Range;
use std::sync::Arc;

use backends::Digest;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use blob_cache::{CachedBlob, FileBody};
use gateway_http::{Body, Problem, Requested, if_none_match_hits, requested};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const CACHE_NAME: &str = "quay-gateway";

/// Makes the answers to one request for one blob.
pub(super) struct Answerer {
    digest: HeaderValue,
    etag: HeaderValue,
    requested: Requested,
    client_has_it: bool,
    /// Headers that the registry sent with the blob.
    kept: Arc<HeaderMap>,
}

impl Answerer {
    pub(super) fn new(digest: Digest, headers: &HeaderMap, kept: Arc<HeaderMap>) -> Self {
        let text = digest.to_string();
        let etag = format!("\"{text}\"");
        Self {
            requested: requested(headers, &etag),
            client_has_it: if_none_match_hits(headers, &etag),
            digest: value(&text),
            etag: value(&etag),
            kept,
        }
    }

    /// The requested part of a blob of `size` bytes. `None` if no part is requested, or it is not within the
    /// blob.
    pub(super) fn part(&self, size: u64) -> Option<Range<u64>> {
        match &self.requested {
            Requested::Part(spec) => spec.within(size),
            Requested::Whole | Requested::Malformed => None,
        }
    }

    pub(super) fn client_has_it(&self) -> bool {
        self.client_has_it
    }

    pub(super) fn not_modified(&self, cache_status: &str) -> Response<Body> {
        self.response(StatusCode::NOT_MODIFIED, Body::empty(), cache_status)
    }

    /// The answer to `HEAD`: that of `GET`, without its body.
    pub(super) fn head(&self, size: u64, cache_status: &str) -> Response<Body> {
        let mut response = self.response(StatusCode::OK, Body::empty(), cache_status);
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        response
    }

    /// The zero-byte blob.
    pub(super) fn empty(&self) -> Response<Body> {
        match self.requested {
            Requested::Whole => self.whole(0, Body::empty(), "hit"),
            _ => unsatisfiable(Some(0)),
        }
    }

    /// The refusal of a range that cannot be satisfied, as soon as that is known.
    pub(super) fn refusal(&self, size: Option<u64>) -> Option<Response<Body>> {
        match (&self.requested, size) {
            (Requested::Malformed, size) => Some(unsatisfiable(size)),
            (Requested::Part(spec), Some(size)) if spec.within(size).is_none() => {
                Some(unsatisfiable(Some(size)))
            }
            _ => None,
        }
    }

    /// The whole blob from a stream.
    pub(super) fn whole(&self, size: u64, body: Body, cache_status: &str) -> Response<Body> {
        let mut response = self.response(StatusCode::OK, body, cache_status);
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        response
    }

    /// The whole blob, if its length is not known before its end. Parts of it cannot be located either.
    ///
    /// HTTP/1.0 marks the end of such a body only by closing the connection. A client, or a proxy that keeps the answer,
    /// would take a blob that broke off, or whose bytes were wrong, for a whole one.
    pub(super) fn unsized_whole(&self, version: Version, body: Body, cache_status: &str) -> Response<Body> {
        if version < Version::HTTP_11 {
            return no_end();
        }
        let mut response = self.response(StatusCode::OK, body, cache_status);
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        response
    }

    /// The whole blob or the requested part, from a complete file.
    pub(super) fn file(&self, blob: CachedBlob, cache_status: &str) -> Response<Body> {
        let size = blob.size;
        self.bytes(size, |range| Body::new(FileBody::new(blob, range)), cache_status)
    }

    /// The whole blob or the requested part. `body` makes the body of a range.
    pub(super) fn bytes(
        &self,
        size: u64,
        body: impl FnOnce(Range<u64>) -> Body,
        cache_status: &str,
    ) -> Response<Body> {
        match (self.refusal(Some(size)), self.part(size)) {
            (Some(refusal), _) => refusal,
            (None, None) => self.whole(size, body(0..size), cache_status),
            (None, Some(range)) => self.partial(size, range.clone(), body(range), cache_status),
        }
    }

    fn partial(&self, size: u64, range: Range<u64>, body: Body, cache_status: &str) -> Response<Body> {
        let described = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        let length = range.end - range.start;
        let mut response = self.response(StatusCode::PARTIAL_CONTENT, body, cache_status);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response.headers_mut().insert(CONTENT_RANGE, value(&described));
        response
    }

    fn response(&self, status: StatusCode, body: Body, cache_status: &str) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.clone_from(&self.kept);
        headers.insert(DOCKER_CONTENT_DIGEST, self.digest.clone());
        headers.insert(ETAG, self.etag.clone());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        headers.insert(CACHE_STATUS, value(&format!("{CACHE_NAME}; {cache_status}")));
        response
    }
}

/// 505: the version cannot say where the blob ends.
fn no_end() -> Response<Body> {
    let what = "nobody says how long this blob is, and HTTP/1.0 cannot tell its end from a cut";
    let problem = Problem::client(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "UNSUPPORTED",
        what,
        "use HTTP/1.1; a proxy before the gateway may need to be told (nginx: proxy_http_version)",
    );
    problem.response()
}

/// 416: no byte of the blob is in the range.
fn unsatisfiable(size: Option<u64>) -> Response<Body> {
    let what = size.map_or_else(
        || "the range is not a range of bytes".into(),
        |size| format!("the range contains no byte of this blob of {size} bytes"),
    );
    let problem = Problem::client(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "RANGE_INVALID",
        what,
        "ask for bytes=first-last within the blob",
    );
    let mut response = problem.response();
    if let Some(size) = size {
        response.headers_mut().insert(CONTENT_RANGE, value(&format!("bytes */{size}")));
    }
    response
}

/// A header value from text of the gateway itself: digests, numbers, names of zones.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(CACHE_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_without_a_length_needs_a_version_that_tells_its_end_from_a_cut() {
        let answer = Answerer::new(Digest::EMPTY, &HeaderMap::new(), Arc::default());
        let status = |version| answer.unsized_whole(version, Body::full("bytes"), "fwd=miss").status();
        assert_eq!(status(Version::HTTP_10), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        assert_eq!([Version::HTTP_11, Version::HTTP_2].map(status), [StatusCode::OK; 2]);
    }
}
