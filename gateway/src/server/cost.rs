//! Computes how much of the memory budget a request takes. Pure.

use http::{HeaderMap, Request, Uri};
use http_body::Body;

use limits::memory::{FORWARDED, FORWARDED_BODY, REQUEST};
use registry::Route;

/// What a header field takes in addition to its bytes. Two maps have an entry for it, one of the head that arrived and
/// one of the head that is forwarded; each entry takes 112 bytes (`http` 1.5 `header/map.rs:Bucket`, 104 bytes, and 8
/// in the index). The name and the value have an allocation of 32 bytes each, which both maps share. The constant is
/// half of all that, because [`HEADS`] counts a head twice.
const FIELD: u64 = 144;

/// A head is in memory twice: as it arrived, and as it is forwarded. The registry is also asked about blobs.
const HEADS: u64 = 2;

/// The bytes that a request and the first pieces of its answer may take.
pub(super) fn cost<B: Body>(request: &Request<B>) -> u64 {
    let read_here = matches!(Route::parse(request.method(), request.uri().path()), Route::Blob { .. });
    let forwarded = if read_here { 0 } else { FORWARDED };
    let body = if request.body().is_end_stream() { 0 } else { FORWARDED_BODY };
    let head = header_bytes(request.headers()) + target_bytes(request.uri());
    REQUEST + head * HEADS + forwarded + body
}

fn header_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64 + FIELD).sum()
}

fn target_bytes(uri: &Uri) -> u64 {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    (authority + uri.path_and_query().map_or(0, |path| path.as_str().len())) as u64
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use gateway_http::Body;

    fn of(method: &str, path: &str, body: Body, headers: &[(&str, &str)]) -> u64 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        cost(&request.body(body).expect("a request"))
    }

    #[test]
    fn what_goes_on_to_the_registry_costs_more() {
        let blob = format!("/v2/a/b/blobs/sha256:{}", "a".repeat(64));
        let pull = of("GET", &blob, Body::empty(), &[]);
        assert!((REQUEST..REQUEST + 1000).contains(&pull), "{pull}");
        let other = of("GET", "/v2/", Body::empty(), &[]);
        assert!((REQUEST + FORWARDED..REQUEST + FORWARDED + 1000).contains(&other), "{other}");
        let push = of("PATCH", "/v2/a/b/blobs/uploads/1", Body::full("bytes"), &[]);
        assert!(push > other + FORWARDED_BODY);
        let long = "x".repeat(10_000);
        assert!(of("GET", "/v2/", Body::empty(), &[("x", &long)]) > other + 10_000);
    }

    /// Measures what `http` (1.5) and the allocator take for fields with a name of two bytes and a value of one, in
    /// both heads.
    #[test]
    fn a_short_field_counts_with_its_entries_and_its_allocations() {
        // An entry of `map.rs:Bucket` has a hash, links to further values, the name and the value. In addition it has a
        // place in the index.
        const ENTRY: u64 = 8 + 24 + size_of::<HeaderName>() as u64 + size_of::<HeaderValue>() as u64 + 8;
        // The smallest allocation of glibc. The name and the value have one each. A cloned map shares them.
        const ALLOCATION: u64 = 32;
        for count in [1, 100, 1800] {
            let fields = || (0..count).map(|at| (format!("x{at:x}"), "1"));
            let headers: HeaderMap = fields()
                .map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
                    (name, HeaderValue::from_static(value))
                })
                .collect();
            let taken = count * 2 * (ENTRY + ALLOCATION);
            assert!(header_bytes(&headers) * HEADS >= taken, "{} and not {taken}", header_bytes(&headers));
        }
    }

    /// A head is in memory as it arrived and as it is forwarded. This is also so for a blob, because the registry is
    /// asked about it.
    #[test]
    fn all_of_a_head_counts_twice() {
        let long = "x".repeat(10_000);
        let blob = format!("/v2/a/b/blobs/sha256:{}", "a".repeat(64));
        for path in ["/v2/", &blob] {
            let short = of("GET", path, Body::empty(), &[]);
            let query = of("GET", &format!("{path}?{long}"), Body::empty(), &[]);
            let header = of("GET", path, Body::empty(), &[("x", &long)]);
            let authority = of("GET", &format!("https://{long}{path}"), Body::empty(), &[]);
            for cost in [query, header, authority] {
                assert!((short + 20_000..short + 20_300).contains(&cost), "{cost} and not {short}");
            }
        }
    }
}
