//! docker-registry (distribution), and registries that behave like it.

use backends::{Digest, Key};
use http::{HeaderMap, StatusCode};

use super::{Registry, names, redirect_path};

/// Distribution's layout and quirks.
#[derive(Debug)]
pub(super) struct Distribution;

impl Registry for Distribution {
    /// `docker/registry/v2/blobs/sha256/<first two hex>/<hex>/data`
    /// (`registry/storage/paths.go:blobDataPathSpec`).
    fn blob_key(&self, digest: &Digest) -> Key {
        let hex = digest.hex();
        Key::new(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// With S3 storage, the answer to a permitted read is a 307 to a signed URL of the blob, also for `HEAD`
    /// (`registry/storage/blobserver.go:ServeBlob`). Any other 307 comes from a proxy.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool {
        match status {
            StatusCode::OK => names(headers, digest),
            StatusCode::TEMPORARY_REDIRECT => redirect_path(headers)
                .is_some_and(|path| path.ends_with(&format!("/{}", self.blob_key(digest)))),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;

    use super::*;

    #[test]
    fn only_a_redirect_to_the_blob_is_a_permission() {
        let digest = Digest::EMPTY;
        let says = |location: &str| {
            let headers = [(LOCATION, location.parse().expect("a value"))].into_iter().collect();
            Distribution.permits(StatusCode::TEMPORARY_REDIRECT, &headers, &digest)
        };
        let key = Distribution.blob_key(&digest);
        assert!(says(&format!("https://s3.example.com/bucket/root/{key}?X-Amz-Signature=0a")));
        assert!(!says("https://registry.example.com/v2/a/blobs/sha256:e3b0"));
        assert!(!says(&format!("https://login.example.com/?back=/{key}")));
        assert!(!Distribution.permits(StatusCode::OK, &HeaderMap::new(), &digest));
    }
}
