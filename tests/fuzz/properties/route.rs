//! What holds for every request line.

use http::Method;
use percent_encoding::percent_decode_str;
use registry::{Repeat, Route, manifest_repository, repeat, unescaped, upload_repository};

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The input is a path. It is understood only if a server that decodes all escapes sees the same path: what is understood
/// has no escaped slash, and when it is written again it is the decoded path and means the same. Only requests without
/// escapes and dot segments are sent twice.
pub(crate) fn hold(input: &[u8]) {
    let Ok(path) = std::str::from_utf8(input) else { return };
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    for method in METHODS {
        let route = Route::parse(&method, path);
        assert!(!route.name(&method, path).is_empty());
        match &route {
            Route::Blob { repository, digest } => {
                assert!(method == Method::GET || method == Method::HEAD);
                let written = format!("/v2/{repository}/blobs/{digest}");
                assert_eq!(decoded, written);
                assert_eq!(Route::parse(&method, &written), route);
                understood(path, repository);
            }
            Route::PutManifest { repository } => {
                assert_eq!(method, Method::PUT);
                assert!(decoded.starts_with(&format!("/v2/{repository}/manifests/")), "{path}");
                understood(path, repository);
            }
            Route::Upload | Route::Forward => {}
        }
        if repeat(&method, path, None) != Repeat::Never {
            assert_eq!(unescaped(path), decoded);
            assert!(!decoded.contains('%') && !decoded.contains("//"), "{path}");
            assert!(decoded.split('/').all(|part| part != "." && part != ".."), "{path}");
        }
    }
    for repository in [manifest_repository(path), upload_repository(path)].into_iter().flatten() {
        assert!(decoded.starts_with(&format!("/v2/{repository}/")), "{path}");
        understood(path, &repository);
    }
}

fn understood(path: &str, repository: &str) {
    assert!(!path.to_ascii_lowercase().contains("%2f"), "an escaped slash was understood: {path}");
    assert!(!repository.contains('%'), "{path}");
    assert!(repository.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{path}");
}
