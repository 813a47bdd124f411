//! Paths without secrets, for logs.

use percent_encoding::percent_decode_str;

/// The number of bytes of a path that are logged. A client may send 64 KiB with each request, and the log
/// keeps them all.
const LOGGED: usize = 1024;

/// The beginning of a path without secrets, for logs. A `_storage_proxy` path holds a token, in any spelling.
/// A query may hold credentials, so callers never log it.
#[must_use]
pub fn loggable(path: &str) -> &str {
    const STORAGE_PROXY: &str = "/_storage_proxy/";
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match decoded.contains("/_storage_proxy") {
        true => STORAGE_PROXY,
        false => &path[..path.floor_char_boundary(LOGGED)],
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

    #[test]
    fn a_path_is_logged_up_to_its_bound() {
        let long = format!("/v2/{}", "\u{e4}".repeat(LOGGED));
        assert_eq!(loggable(&long).len(), LOGGED);
        let odd = format!("/v2/a{}", "\u{e4}".repeat(LOGGED));
        assert_eq!(loggable(&odd).len(), LOGGED - 1);
        assert_eq!(loggable(&format!("{odd}/_storage_proxy/token")), "/_storage_proxy/");
    }
}
