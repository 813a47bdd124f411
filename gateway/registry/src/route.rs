//! Decides which requests the gateway understands.

use backends::Digest;
use http::Method;

use super::escapes::unescaped;

/// The meaning of a request. A request that the gateway does not understand is forwarded to the registry
/// unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET` or `HEAD` of a blob.
    Blob {
        /// The repository, without escapes.
        repository: String,
        /// The digest.
        digest: Digest,
    },
    /// `PUT` of a manifest, which completes a push.
    PutManifest {
        /// The repository, without escapes.
        repository: String,
    },
    /// Any other request below `…/blobs/uploads/`.
    Upload,
    /// Anything else.
    Forward,
}

impl Route {
    /// The route's name in metrics and in the access log. Of the requests that are forwarded, those that read a
    /// manifest (`manifest`) or fetch a token (`token`) have names of their own.
    #[must_use]
    pub fn name(&self, method: &Method, path: &str) -> &'static str {
        match self {
            Self::Blob { .. } => "blob",
            Self::PutManifest { .. } => "manifest-put",
            Self::Upload => "upload",
            Self::Forward if reads(method) && manifest_repository(path).is_some() => "manifest",
            Self::Forward if unescaped(path) == TOKEN => "token",
            Self::Forward => "forward",
        }
    }

    /// Parses a request line. `path` is the path as it was received, with its percent-encoding. An escape is
    /// understood only if every server decodes it in the same way.
    ///
    /// A digest of another algorithm or spelling is left to the registry, and so is a repository name that
    /// does not have the distribution specification's form.
    #[must_use]
    pub fn parse(method: &Method, path: &str) -> Self {
        let path = unescaped(path);
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Forward };
        // The path is read from the right, because a part of a repository's name may be `blobs` or
        // `manifests`.
        if let Some((repository, reference)) = rest.rsplit_once("/manifests/")
            && method == Method::PUT
            && is_repository(repository)
            && !reference.is_empty()
            && !reference.contains('/')
            // With an escaped slash, it would be another path.
            && !reference.to_ascii_lowercase().contains("%2f")
        {
            return Self::PutManifest { repository: repository.to_owned() };
        }
        if let Some((repository, digest)) = rest.rsplit_once("/blobs/")
            && reads(method)
            && is_repository(repository)
            && let Ok(digest) = digest.parse()
        {
            return Self::Blob { repository: repository.to_owned(), digest };
        }
        match rest.contains("/blobs/uploads") {
            true => Self::Upload,
            false => Self::Forward,
        }
    }
}

/// Where Quay gives tokens (`endpoints/v2/v2auth.py`).
pub(crate) const TOKEN: &str = "/v2/auth";

/// Whether, and after which answers, a request without a body may be sent to a second instance although the
/// first may have received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Never.
    Never,
    /// If the first instance gave no answer, or an answer that says that it does not serve. The request only
    /// reads.
    Read,
    /// A login. Only after an answer that decided nothing: Quay counts wrong passwords and locks accounts
    /// (`endpoints/v2/v2auth.py`, `auth/credentials.py`), so 401, 403 and 429 are final.
    Login,
    /// As [`Repeat::Read`], for a request that begins an upload or mounts a blob. If an upload is begun
    /// twice, one of the two is abandoned, and Quay removes it after two days
    /// (`workers/blobuploadcleanupworker`).
    Begin,
}

/// Whether a request without a body may be sent twice. Only paths that no server can take for another path
/// are accepted: they have no escape that could hide something, no empty part, and no part of dots. The
/// catalog is not accepted, because it may time out at an instance that works.
#[must_use]
pub fn repeat(method: &Method, path: &str, query: Option<&str>) -> Repeat {
    let path = unescaped(path);
    let Some(rest) = path.strip_prefix("/v2/") else { return Repeat::Never };
    if method == Method::POST {
        let begins = rest.strip_suffix("/blobs/uploads/").is_some_and(is_repository);
        // With a digest in the query, the body is the blob.
        let whole = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("digest=")));
        return if begins && !whole { Repeat::Begin } else { Repeat::Never };
    }
    if !reads(method) {
        return Repeat::Never;
    }
    match rest {
        "" => return Repeat::Read,
        "auth" => return Repeat::Login,
        _ => {}
    }
    let read = ["/blobs/", "/manifests/", "/tags/", "/referrers/"].iter().any(|word| {
        rest.rsplit_once(word).is_some_and(|(name, reference)| is_repository(name) && is_reference(reference))
    });
    if read { Repeat::Read } else { Repeat::Never }
}

/// Whether the text is a tag, a digest, or the word `list`.
pub(crate) fn is_reference(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:+".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(plain)
}

/// The repository of a request for `…/blobs/uploads/`, or for one upload below it, if its name is understood. If
/// anything else follows, such as dot segments, a proxy may see another path.
#[must_use]
pub fn upload_repository(path: &str) -> Option<String> {
    let path = unescaped(path);
    let (name, upload) = path.strip_prefix("/v2/")?.rsplit_once("/blobs/uploads")?;
    let is_upload = match upload.strip_prefix('/') {
        Some(id) => id.is_empty() || is_reference(id),
        None => upload.is_empty(),
    };
    (is_upload && is_repository(name)).then(|| name.to_owned())
}

/// The repository of a request for a manifest, if its name is understood.
#[must_use]
pub fn manifest_repository(path: &str) -> Option<String> {
    let path = unescaped(path);
    let (name, reference) = path.strip_prefix("/v2/")?.rsplit_once("/manifests/")?;
    (is_repository(name) && is_reference(reference)).then(|| name.to_owned())
}

pub(crate) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The most bytes of a repository name that is understood (a column of Quay's database holds 255 for each
/// part).
const REPOSITORY_BYTES_MAX: usize = 512;

/// Whether this is a repository name: parts joined by slashes, each beginning with a letter or digit. As in
/// Quay's `util/names.py`, this is wider than the distribution specification: parts may end with `.`, `_` or
/// `-`, and old names have upper case. `.` and `..` are not parts.
pub(crate) fn is_repository(name: &str) -> bool {
    name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = part.as_bytes();
    bytes.first().copied().is_some_and(plain)
        && bytes.iter().all(|byte| plain(*byte) || b"._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn blob(method: &Method, path: &str) -> Option<String> {
        match Route::parse(method, path) {
            Route::Blob { repository, .. } => Some(repository),
            _ => None,
        }
    }

    #[test]
    fn blobs_of_any_depth() {
        for name in ["busybox", "org/app", "org/team/app.x/y_z", "org/app_", "org/a-", "org/a."] {
            assert_eq!(blob(&Method::GET, &format!("/v2/{name}/blobs/sha256:{HEX}")).as_deref(), Some(name));
            assert_eq!(blob(&Method::HEAD, &format!("/v2/{name}/blobs/sha256:{HEX}")).as_deref(), Some(name));
        }
    }

    #[test]
    fn manifests_of_any_depth() {
        for (path, name) in [
            ("/v2/o/a/manifests/v1", Some("o/a")),
            ("/v2/a/manifests/sha256:ab", Some("a")),
            ("/v2/o/manifests/a/manifests/v1", Some("o/manifests/a")),
            ("/v2/o/%61/manifests/v1", Some("o/a")),
            ("/v2/o/a/manifests/", None),
            ("/v2/o/a/manifests/../x", None),
            ("/v2/o/../a/manifests/v1", None),
            ("/v2/o%2Fa/manifests/v1", None),
            ("/v2/manifests/v1", None),
            ("/v2/o/a/tags/list", None),
        ] {
            assert_eq!(manifest_repository(path).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn unknown_requests_are_forwarded() {
        let upper = HEX.to_uppercase();
        for path in [
            "/",
            "/v2/",
            "/v2",
            "/v1/_ping",
            "/v2/_catalog",
            "/v2/a/tags/list",
            &format!("/v2/a/blobs/sha256:{upper}"),
            &format!("/v2/a/blobs/sha512:{HEX}"),
            &format!("/v2/a/blobs/sha256:{HEX}/"),
            &format!("/v2/../blobs/sha256:{HEX}"),
            &format!("/v2//blobs/sha256:{HEX}"),
            &format!("/v2/a%2Fb/blobs/sha256:{HEX}"),
            &format!("/v2/a%2fb/blobs/sha256%3A{HEX}"),
            &format!("/v2/%2e%2e/blobs/sha256:{HEX}"),
            &format!("/v2/a/%2E%2E/c/blobs/sha256:{HEX}"),
            &format!("/v2/a/blobs/sha256%253A{HEX}"),
            &format!("/v2/%2561/blobs/sha256:{HEX}"),
            &format!("/v2%2Fa/blobs/sha256:{HEX}"),
            &format!("/v2/a/blobs%2Fsha256:{HEX}"),
            &format!("/v2/a/blobs/sha256:{HEX}%00"),
            &format!("/v2/a%20/blobs/sha256:{HEX}"),
            &format!("/v2/a/b/../c/blobs/sha256:{HEX}"),
            "/v2/a/blobs/",
        ] {
            assert_eq!(Route::parse(&Method::GET, path), Route::Forward, "{path}");
        }
        assert_eq!(Route::parse(&Method::DELETE, &format!("/v2/a/blobs/sha256:{HEX}")), Route::Forward);
        assert_eq!(Route::parse(&Method::GET, "/v2/a/manifests/latest"), Route::Forward);
    }

    #[test]
    fn escapes_that_every_server_decodes_alike() {
        for path in [
            &format!("/v2/o/a/blobs/sha256%3A{HEX}"),
            &format!("/v2/o/a/blobs/sha256%3a{HEX}"),
            &format!("/v2/o/%61/blobs/sha256:{HEX}"),
            &format!("/v2/%6F/a/%62lobs/%73ha256%3A{HEX}"),
        ] {
            assert_eq!(blob(&Method::GET, path).as_deref(), Some("o/a"), "{path}");
            assert_eq!(repeat(&Method::GET, path, None), Repeat::Read, "{path}");
        }
        let put = Route::PutManifest { repository: "o/a".into() };
        assert_eq!(Route::parse(&Method::PUT, &format!("/v2/o/a/manifests/sha256%3A{HEX}")), put);
        assert_eq!(Route::parse(&Method::PUT, "/v2/o/%61/manifests/v1"), put);
        assert_eq!(Route::parse(&Method::PUT, "/v2/o/a/manifests/x%2Fy"), Route::Forward);
        assert_eq!(Route::parse(&Method::POST, "/v2/o/%61/blobs/%75ploads/"), Route::Upload);
        assert_eq!(Route::parse(&Method::POST, "/v2/o%2Fa/blobs/uploads/"), Route::Upload);
    }

    #[test]
    fn names_of_forwarded_requests() {
        for (method, path, name) in [
            (Method::GET, "/v2/o/a/manifests/v1", "manifest"),
            (Method::HEAD, "/v2/o/a/manifests/sha256:ab", "manifest"),
            (Method::DELETE, "/v2/o/a/manifests/v1", "forward"),
            (Method::GET, "/v2/o/../manifests/v1", "forward"),
            (Method::GET, "/v2/auth", "token"),
            (Method::POST, "/v2/auth", "token"),
            (Method::GET, "/v2/", "forward"),
            (Method::PUT, "/v2/o/a/manifests/v1", "manifest-put"),
        ] {
            assert_eq!(Route::parse(&method, path).name(&method, path), name, "{method} {path}");
        }
        assert_eq!(manifest_repository("/v2/o/a/manifests/v1").as_deref(), Some("o/a"));
    }

    #[test]
    fn pushes() {
        assert_eq!(
            Route::parse(&Method::PUT, "/v2/o/a/manifests/v1"),
            Route::PutManifest { repository: "o/a".into() }
        );
        assert_eq!(Route::parse(&Method::POST, "/v2/o/a/blobs/uploads/"), Route::Upload);
        assert_eq!(Route::parse(&Method::PATCH, "/v2/o/a/blobs/uploads/123"), Route::Upload);
        let odd = "o/blobs/manifests/a";
        let put = Route::parse(&Method::PUT, &format!("/v2/{odd}/manifests/v1"));
        assert_eq!(put, Route::PutManifest { repository: odd.into() });
        assert_eq!(blob(&Method::GET, &format!("/v2/{odd}/blobs/sha256:{HEX}")).as_deref(), Some(odd));
    }

    #[test]
    fn requests_that_may_be_sent_twice() {
        let digest = format!("sha256:{HEX}");
        for path in [
            "/v2/",
            "/v2/o/a/tags/list",
            "/v2/o/a/manifests/latest",
            "/v2/auth/manifests/v1",
            &format!("/v2/o/a/manifests/{digest}"),
            &format!("/v2/o/a/blobs/{digest}"),
            &format!("/v2/o/%61/blobs/sha256%3A{HEX}"),
            &format!("/v2/o/a/referrers/{digest}"),
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(repeat(&method, path, None), Repeat::Read, "{method} {path}");
            }
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                assert_eq!(repeat(&method, path, None), Repeat::Never, "{method} {path}");
            }
        }
        for path in [
            "/v2/auth/",
            "/v2//auth",
            "/v2/a%2Fauth",
            "/v2/./auth",
            "/v2/a/../auth",
            "/v2/auth/manifests/..",
            "/v2/auth/manifests/.",
            "/v2/a/manifests/../../auth",
            "/v2/a/tags/..%2f..%2fauth",
            "/v2/a/blobs/uploads/0b1c",
            "/v2",
            "/v2/_catalog",
            "/v1/_ping",
            "/health/instance",
            "/oauth2/authorize",
        ] {
            assert_eq!(repeat(&Method::GET, path, None), Repeat::Never, "{path}");
        }
        for login in ["/v2/auth", "/v2/%61uth"] {
            assert_eq!(repeat(&Method::GET, login, Some("service=x")), Repeat::Login);
        }
        assert_eq!(repeat(&Method::POST, "/v2/auth", None), Repeat::Never);
    }

    #[test]
    fn an_upload_may_be_begun_twice() {
        let post = |path, query| repeat(&Method::POST, path, query);
        for query in [None, Some(""), Some("mount=sha256:0&from=o/b"), Some("x=digest=")] {
            assert_eq!(post("/v2/o/a/blobs/uploads/", query), Repeat::Begin, "{query:?}");
        }
        for query in ["digest=sha256:0", "from=o/b&digest=sha256:0"] {
            assert_eq!(post("/v2/o/a/blobs/uploads/", Some(query)), Repeat::Never, "{query}");
        }
        for path in ["/v2/o/a/blobs/uploads/0b1c", "/v2/../blobs/uploads/", "/v2/blobs/uploads/"] {
            assert_eq!(post(path, None), Repeat::Never, "{path}");
        }
        assert_eq!(repeat(&Method::PUT, "/v2/o/a/blobs/uploads/", None), Repeat::Never);
    }

    #[test]
    fn repositories_of_uploads() {
        for (path, name) in [
            ("/v2/o/a/blobs/uploads/", "o/a"),
            ("/v2/o/%61/blobs/uploads/", "o/a"),
            ("/v2/a/blobs/uploads/0b1c", "a"),
            ("/v2/a/blobs/uploads", "a"),
            ("/v2/a/blobs/uploads/6f6e0a2c-6dd1-4b1e-8f0c-0c3c9d2f9f3b", "a"),
        ] {
            assert_eq!(upload_repository(path).as_deref(), Some(name));
        }
        for other in [
            "/v2/o/a/blobs/x",
            "/v2/../blobs/uploads/",
            "/v2/a%2Fb/blobs/uploads/",
            "/x/blobs/uploads/",
            "/v2/o/a/blobs/uploads/../../../../../x",
            "/v2/o/a/blobs/uploads/%2e%2e/%2e%2e/x",
            "/v2/o/a/blobs/uploads/..",
            "/v2/o/a/blobs/uploads/id/x",
            "/v2/o/a/blobs/uploads//",
            "/v2/o/a/blobs/uploadsx",
        ] {
            assert_eq!(upload_repository(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_never_invents(path in "\\PC{0,80}") {
            if let Route::Blob { repository, digest } = Route::parse(&Method::GET, &path) {
                prop_assert_eq!(path, format!("/v2/{repository}/blobs/{digest}"));
            }
        }

        /// Every path that is understood is the path that Quay sees. Quay decodes the path once and
        /// completely.
        #[test]
        fn understood_paths_are_those_that_quay_decodes(
            name in "([ab]|/|\\.|%61|%2[EeFf]|%25|%62){1,8}",
            colon in "(:|%3[Aa]|%253A)",
            slash in "(/|%2F|//)",
        ) {
            let path = format!("/v2/{name}/blobs{slash}sha256{colon}{HEX}");
            let decoded = percent_encoding::percent_decode_str(&path).decode_utf8_lossy();
            if let Route::Blob { repository, digest } = Route::parse(&Method::GET, &path) {
                prop_assert_eq!(decoded, format!("/v2/{repository}/blobs/{digest}"));
            }
        }

        #[test]
        fn round_trip(name in "[a-z0-9]{1,8}(/[a-z0-9]{1,4}([._-][a-z0-9]{1,4}){0,2}){0,3}", hex in "[0-9a-f]{64}") {
            let path = format!("/v2/{name}/blobs/sha256:{hex}");
            prop_assert_eq!(blob(&Method::GET, &path), Some(name));
        }
    }
}
