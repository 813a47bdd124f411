//! Any registry that speaks the distribution specification, such as Harbor, zot, GitLab or Nexus. Its stores are not known.

use backends::{Digest, Key};
use http::{HeaderMap, StatusCode};

use super::{Registry, names, redirect_path};

/// What all registries have in common.
#[derive(Debug)]
pub(super) struct Oci;

impl Registry for Oci {
    /// There is no zone, so the key only names the blob.
    fn blob_key(&self, digest: &Digest) -> Key {
        let hex = digest.hex();
        Key::new(format!("sha256/{}/{hex}", &hex[..2]))
    }

    /// A 200 that names the blob, or a redirect to a place whose path ends with the blob's digest, as the S3 storage of
    /// distribution gives it. A path such as `/v2/NAME/blobs/sha256:…` is that of the request itself, to which a proxy may
    /// send everybody. `Docker-Content-Digest` is not required of registries (distribution specification, "Pulling blobs"),
    /// but without it an answer may be the page of a proxy.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool {
        match status {
            StatusCode::OK => names(headers, digest),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::FOUND => {
                redirect_path(headers).is_some_and(|path| {
                    let path = path.strip_suffix("/data").unwrap_or(path);
                    path.rsplit('/').next() == Some(digest.hex().as_str())
                })
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(status: u16, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")));
        Oci.permits(StatusCode::from_u16(status).expect("a status"), &headers.collect(), &Digest::EMPTY)
    }

    #[test]
    fn only_an_answer_about_the_blob_is_a_permission() {
        let (hex, bytes) = (Digest::EMPTY.hex(), ("content-type", "application/octet-stream"));
        let (own, length) = (Digest::EMPTY.to_string(), ("content-length", "0"));
        let other = Digest::of(b"other").to_string();
        assert!(permits(200, &[("docker-content-digest", &own)]));
        assert!(!permits(200, &[bytes, length]), "a proxy's default type");
        assert!(!permits(200, &[("docker-content-digest", &other), bytes, length]));
        assert!(!permits(200, &[("content-type", "text/html"), length]), "the page of a proxy");
        assert!(
            !permits(200, &[bytes])
                && !permits(200, &[])
                && !permits(204, &[("docker-content-digest", &own)])
        );
        for (location, may) in [
            (
                format!(
                    "https://s3.example.com/b/docker/registry/v2/blobs/sha256/e3/{hex}/data?X-Amz-Signature=0a"
                ),
                true,
            ),
            (format!("https://s3.example.com/b/{hex}"), true),
            (format!("https://sso.example.com/v2/private/app/blobs/sha256:{hex}"), false),
            (format!("/v2/private/app/blobs/sha256:{hex}"), false),
            (format!("https://login.example.com/?back=/{hex}"), false),
            ("https://login.example.com/".to_owned(), false),
            (format!("https://s3.example.com/b/{hex}/other"), false),
        ] {
            assert_eq!(permits(307, &[("location", &location)]), may, "{location}");
        }
    }
}
