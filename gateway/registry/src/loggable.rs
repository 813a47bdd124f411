//! Paths without secrets, for logs.

use percent_encoding::percent_decode_str;

/// A path without secrets, for logs. A `_storage_proxy` path holds a token, however it is spelled. Queries
/// may hold credentials, so callers never log them.
#[must_use]
pub fn loggable(path: &str) -> &str {
    const STORAGE_PROXY: &str = "/_storage_proxy/";
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match decoded.contains("/_storage_proxy") {
        true => STORAGE_PROXY,
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_paths_are_not_logged() {
        for path in
            ["/_storage_proxy/t/x", "/%5Fstorage_proxy/t/x", "//_storage_proxy/t", "/%2F_storage%5fproxy/t"]
        {
            assert_eq!(loggable(path), "/_storage_proxy/", "{path}");
        }
        assert_eq!(loggable("/v2/a/blobs/sha256%3Aab"), "/v2/a/blobs/sha256%3Aab");
    }
}
