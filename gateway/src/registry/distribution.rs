//! docker-registry (distribution) and its kin.

use backends::{Digest, Key};
use http::{HeaderValue, StatusCode};

use super::Registry;

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

    /// With S3 storage it says yes by a 307 to a signed URL, even to `HEAD`
    /// (`registry/storage/blobserver.go:ServeBlob`).
    fn permits(&self, status: StatusCode) -> bool {
        status == StatusCode::OK || status == StatusCode::TEMPORARY_REDIRECT
    }

    /// Its URLs are built from the request's `Host`, so it gets the name the client knows.
    fn host(&self, registry: &HeaderValue, client: Option<&HeaderValue>) -> HeaderValue {
        client.unwrap_or(registry).clone()
    }
}
