//! The headers of the registry's answer that the gateway keeps for its own answers. Pure.

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;

use gateway_http::end_to_end;

/// Headers of the registry's answer that describe the blob rather than this one answer. Browsers, scanners
/// and caches in between use them. The list lacks the headers that the gateway sets itself (length, type,
/// digest, ranges), `Date` and `Server`, and `Set-Cookie`, which is for one client only.
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

/// The number of bytes of names and values that are kept of one answer. Headers beyond it are left out.
const BYTES_MAX: usize = 1024;

/// The number of sets of headers that permissions share.
const SHARED_MAX: usize = 16;

/// The headers to keep. In a redirect, the headers about caching describe the redirect and not the blob.
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

/// The latest sets of headers. A registry sends the same headers for all its blobs, so permissions share
/// them.
#[derive(Debug, Default)]
pub(super) struct SharedHeaders(Mutex<Vec<Arc<HeaderMap>>>);

impl SharedHeaders {
    /// A shared set with the same headers, if there is one.
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
    fn only_headers_about_the_blob_are_kept() {
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
    fn equal_headers_are_shared() {
        let shared = SharedHeaders::default();
        let one = |value: &str| shared.one(headers(&[("vary", value)]));
        let first = one("0");
        assert!(Arc::ptr_eq(&first, &one("0")));
        for number in 1..100 {
            one(&number.to_string());
        }
        assert_eq!(shared.0.lock().len(), SHARED_MAX);
    }
}
