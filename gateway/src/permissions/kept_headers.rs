//! What an answer made here keeps of the registry's own: pure.

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;

use gateway_http::end_to_end;

/// Headers of the registry's yes that are said of the blob rather than of that one answer: what a browser, a
/// scanner or a cache in between goes by. Not among them are those that the gateway says itself (length, type,
/// digest, ranges), `Date` and `Server`, and `Set-Cookie`, which is for one client alone.
const KEPT: [&str; 20] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "cache-control",
    "content-security-policy",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "docker-distribution-api-version",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "timing-allow-origin",
    "vary",
    "x-content-type-options",
    "x-frame-options",
    "x-robots-tag",
];

/// Bytes of names and values that are kept of one answer; what is beyond is left out.
const BYTES_MAX: usize = 1024;

/// Sets of headers that yeses share.
const SHARED_MAX: usize = 16;

/// The headers to keep. Of a redirect, what is said of caching is said of the redirect.
pub(super) fn kept(headers: &HeaderMap, redirect: bool) -> HeaderMap {
    let headers = end_to_end(headers);
    let mut kept = HeaderMap::new();
    let mut bytes = 0;
    for name in KEPT.into_iter().filter(|name| !(redirect && *name == "cache-control")) {
        for value in headers.get_all(name) {
            bytes += name.len() + value.len();
            if bytes <= BYTES_MAX {
                kept.append(name, value.clone());
            }
        }
    }
    kept
}

/// Sets of headers that were kept of late: a registry says the same of all its blobs, so yeses share them.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Vec<Arc<HeaderMap>>>);

impl Shared {
    /// The same headers, shared if they can be.
    pub(super) fn one(&self, headers: HeaderMap) -> Arc<HeaderMap> {
        let mut all = self.0.lock();
        if let Some(known) = all.iter().find(|known| ***known == headers) {
            return Arc::clone(known);
        }
        let new = Arc::new(headers);
        if all.len() == SHARED_MAX {
            all.remove(0);
        }
        all.push(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn what_is_said_of_the_blob() {
        let said = headers(&[
            ("cache-control", "max-age=31436000"),
            ("x-frame-options", "DENY"),
            ("vary", "Origin"),
            ("vary", "Accept"),
            ("server", "nginx"),
            ("set-cookie", "session=a"),
            ("content-length", "5"),
            ("connection", "x-robots-tag"),
            ("x-robots-tag", "none"),
        ]);
        let both = [("vary", "Origin"), ("vary", "Accept"), ("x-frame-options", "DENY")];
        assert_eq!(kept(&said, true), headers(&both));
        assert_eq!(kept(&said, false)["cache-control"], "max-age=31436000");
        let long = "x".repeat(BYTES_MAX);
        assert!(kept(&headers(&[("cache-control", &long)]), false).is_empty());
    }

    #[test]
    fn equal_ones_are_shared() {
        let shared = Shared::default();
        let one = |value: &str| shared.one(headers(&[("vary", value)]));
        let first = one("0");
        assert!(Arc::ptr_eq(&first, &one("0")));
        for number in 1..100 {
            one(&number.to_string());
        }
        assert_eq!(shared.0.lock().len(), SHARED_MAX);
    }
}
