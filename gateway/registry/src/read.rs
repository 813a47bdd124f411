//! What a forwarded request reads, for a gateway that may answer it without the registry.

use http::Method;

use super::escapes::unescaped;
use super::route::{TOKEN, is_reference, is_repository, reads};

/// What a request reads that is no blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// `/v2/`: whether the registry is there, and where it gives tokens.
    Ping,
    /// Quay's tokens (`/v2/auth`), with any method: clients try `POST` first.
    Token,
    /// A manifest.
    Manifest {
        /// The repository, without escapes.
        repository: String,
        /// The tag or digest.
        reference: String,
    },
    /// Anything else.
    Other,
}

impl Read {
    /// What a request with this method and path reads.
    #[must_use]
    pub fn parse(method: &Method, path: &str) -> Self {
        let path = unescaped(path);
        match path.strip_prefix("/v2/") {
            _ if path == TOKEN => Self::Token,
            _ if !reads(method) => Self::Other,
            Some("") => Self::Ping,
            Some(rest) => match rest.rsplit_once("/manifests/") {
                Some((name, reference)) if is_repository(name) && is_reference(reference) => {
                    Self::Manifest { repository: name.to_owned(), reference: reference.to_owned() }
                }
                _ => Self::Other,
            },
            None => Self::Other,
        }
    }
}

/// Whether a query changes nothing about which manifest is meant: there is none, or only `ns`, by which containerd names
/// the registry that it asks a mirror for (`core/remotes/docker/resolver.go:withNamespace`, its hosts.md).
#[must_use]
pub fn is_plain_query(query: Option<&str>) -> bool {
    query.is_none_or(|query| query.is_empty() || (query.starts_with("ns=") && !query.contains(['&', ';'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_told_apart() {
        let manifest = |repository: &str, reference: &str| Read::Manifest {
            repository: repository.into(),
            reference: reference.into(),
        };
        for (path, read) in [
            ("/v2/", Read::Ping),
            ("/v2", Read::Other),
            ("/v2/auth", Read::Token),
            ("/v2/a/manifests/v1", manifest("a", "v1")),
            ("/v2/o/a/manifests/sha256%3Aab", manifest("o/a", "sha256:ab")),
            ("/v2/o/manifests/manifests/v1", manifest("o/manifests", "v1")),
            ("/v2/o/a/manifests/", Read::Other),
            ("/v2/o/a/manifests/a%2fb", Read::Other),
            ("/v2/o/../manifests/v1", Read::Other),
            ("/v2/o/a/tags/list", Read::Other),
            ("/v1/o/a/manifests/v1", Read::Other),
        ] {
            assert_eq!(Read::parse(&Method::GET, path), read, "{path}");
            let written = if path == TOKEN { Read::Token } else { Read::Other };
            assert_eq!(Read::parse(&Method::PUT, path), written, "{path}");
        }
    }

    #[test]
    fn only_the_namespace_of_a_mirror_is_a_plain_query() {
        for (query, plain) in [
            (None, true),
            (Some(""), true),
            (Some("ns=quay.example.com"), true),
            (Some("ns=a&tag=b"), false),
            (Some("tag=b"), false),
        ] {
            assert_eq!(is_plain_query(query), plain, "{query:?}");
        }
    }
}
