//! Follows the registry's redirects to stores. Credentials of clients are not sent there.

mod guard;
mod store;

use http::uri::PathAndQuery;
use url::Url;

pub use self::guard::Refusal;
pub use self::store::{RedirectClient, StoreError};

/// The target of a `Location`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The registry itself, under either of its names. The gateway connects to the configured address, and
    /// sends the bytes of the path unchanged, because Quay compares `_storage_proxy` paths byte for byte
    /// (`storage/downloadproxy.py:_validate_proxy_url`).
    Registry(PathAndQuery),
    /// A store.
    Store(Url),
}

/// Parses a `Location`. `None` if it is not a URL that can be followed.
pub(crate) fn parse_target(location: &str, is_registry: impl Fn(&str) -> bool) -> Option<Target> {
    if location.starts_with('/') && !location.starts_with("//") {
        return location.parse().ok().map(Target::Registry);
    }
    let (_, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if is_registry(authority) {
        return path.parse().ok().map(Target::Registry);
    }
    let url: Url = location.parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(Target::Store(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(location: &str) -> Option<Target> {
        parse_target(location, |authority| authority.eq_ignore_ascii_case("quay.example.com"))
    }

    #[test]
    fn the_registry_keeps_its_bytes() {
        let path = "/_storage_proxy/ZXlK/https/store%2Fx/a//b/../c?Signature=a%2Fb%3D&Expires=1";
        let expected = Some(Target::Registry(path.parse().expect("a path")));
        assert_eq!(parsed(&format!("https://quay.example.com{path}")), expected);
        assert_eq!(parsed(path), expected);
    }

    #[test]
    fn others_are_stores() {
        let url = "https://store.example.com/b/k?X-Amz-Signature=0a";
        assert_eq!(parsed(url), Some(Target::Store(url.parse().expect("a URL"))));
        for wrong in ["", "store", "ftp://x/y", "//evil.example.com/x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
