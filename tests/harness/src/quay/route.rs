//! The paths that Quay knows.

/// The parts of a path. The repository includes its namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Base,
    BaseWithoutSlash,
    Auth,
    Catalog,
    Blob { repository: String, digest: &'a str },
    Uploads { repository: String },
    Upload { repository: String, id: &'a str },
    Manifest { repository: String, reference: &'a str },
    Tags { repository: String },
    Referrers { repository: String, digest: &'a str },
    Keys,
    Key(&'a str),
    Health(&'a str),
    V1Ping,
    InternalPing,
    StorageProxy,
    Unknown,
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Self {
        match path {
            "/v2" => return Self::BaseWithoutSlash,
            "/v2/" => return Self::Base,
            "/v2/auth" => return Self::Auth,
            "/v2/_catalog" => return Self::Catalog,
            "/keys/services/quay/keys" => return Self::Keys,
            "/health" => return Self::Health("instance"),
            "/status" => return Self::Health("endtoend"),
            "/v1/_ping" => return Self::V1Ping,
            "/_internal_ping" => return Self::InternalPing,
            _ => {}
        }
        if let Some(kid) = path.strip_prefix("/keys/services/quay/keys/") {
            return Self::Key(kid);
        }
        if let Some(which) = path.strip_prefix("/health/") {
            return Self::Health(which);
        }
        if path.starts_with("/_storage_proxy/") {
            return Self::StorageProxy;
        }
        path.strip_prefix("/v2/").and_then(Self::in_repository).unwrap_or(Self::Unknown)
    }

    fn in_repository(path: &'a str) -> Option<Self> {
        let (rest, last) = path.rsplit_once('/')?;
        let (front, word) = rest.rsplit_once('/')?;
        if word == "uploads" {
            let repository = name(front.strip_suffix("/blobs")?)?;
            return Some(if last.is_empty() {
                Self::Uploads { repository }
            } else {
                Self::Upload { repository, id: last }
            });
        }
        let repository = name(front)?;
        match word {
            "blobs" if last.contains(':') => Some(Self::Blob { repository, digest: last }),
            "manifests" if !last.is_empty() => Some(Self::Manifest { repository, reference: last }),
            "tags" if last == "list" => Some(Self::Tags { repository }),
            "referrers" if last.contains(':') => Some(Self::Referrers { repository, digest: last }),
            _ => None,
        }
    }
}

/// A repository's full name. A name without a slash belongs to `library`.
fn name(path: &str) -> Option<String> {
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
    };
    path.split('/').all(good).then(|| super::with_namespace(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let repository = || "a/b".to_owned();
        assert_eq!(
            Route::parse("/v2/a/b/blobs/sha256:00"),
            Route::Blob { repository: repository(), digest: "sha256:00" }
        );
        assert_eq!(Route::parse("/v2/a/b/blobs/uploads/"), Route::Uploads { repository: repository() });
        assert_eq!(
            Route::parse("/v2/a/b/blobs/uploads/id"),
            Route::Upload { repository: repository(), id: "id" }
        );
        assert_eq!(Route::parse("/v2/a/b/tags/list"), Route::Tags { repository: repository() });
        assert_eq!(
            Route::parse("/v2/x/manifests/t"),
            Route::Manifest { repository: "library/x".into(), reference: "t" }
        );
        assert_eq!(
            Route::parse("/v2/a/b/c/manifests/t"),
            Route::Manifest { repository: "a/b/c".into(), reference: "t" }
        );
        for unknown in
            ["/", "/v2/a", "/v2//b/tags/list", "/v2/A/b/tags/list", "/v2/a/b/blobs/none", "/api/v1"]
        {
            assert_eq!(Route::parse(unknown), Route::Unknown, "{unknown}");
        }
    }
}
