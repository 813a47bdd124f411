//! Red Hat Quay.

use backends::{Digest, Key};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Registry, names};

/// The largest body that Quay's nginx accepts for a request that it does not recognise as one about blobs.
/// This is so for repositories without a namespace (`conf/nginx/server-base.conf.jnj`; nginx's default
/// `client_max_body_size`).
const OTHER_BODY_MAX: u64 = 1024 * 1024;

/// An answer to a request of an upload that may refuse the upload's size.
#[derive(Debug)]
pub struct UploadRefusal<'a> {
    /// The repository of the upload, if the path names one.
    pub repository: Option<&'a str>,
    /// The bytes that the request announced, or had sent when the answer came.
    pub length: Option<u64>,
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: &'a HeaderMap,
    /// Quay's `MAXIMUM_LAYER_SIZE` in bytes.
    pub layer_max: u64,
}

/// Whether a 413 stands for a 502. If Quay breaks off, its nginx serves an error page (`error_page 502
/// /502.html`). For the path of that page, a body of more than 1 MiB is too large, so nginx answers 413. A
/// body within the limits of its own path is never refused with 413.
pub fn is_masked_bad_gateway(refused: &UploadRefusal<'_>) -> bool {
    let page = refused.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let page = page.is_some_and(|kind| kind.starts_with("text/html"));
    let Some(repository) = refused.repository else { return false };
    let max = if repository.contains('/') { refused.layer_max } else { OTHER_BODY_MAX };
    refused.status == StatusCode::PAYLOAD_TOO_LARGE && page && refused.length.unwrap_or(0) <= max
}

/// Quay's layout and quirks.
#[derive(Debug)]
pub(super) struct Quay;

impl Registry for Quay {
    /// `sha256/<first two hex>/<hex>` (`digest/digest_tools.py:content_path`).
    fn blob_key(&self, digest: &Digest) -> Key {
        let hex = digest.hex();
        Key::new(format!("sha256/{}/{hex}", &hex[..2]))
    }

    /// Quay's answer to `HEAD` does not depend on the client's address
    /// (`endpoints/v2/blob.py:check_blob_exists`). Up to version 3.16 its answer to `GET` may:
    /// `download_blob` refuses regions that a namespace excludes (`check_region_blacklisted`). The gateway
    /// asks with `HEAD`, so it does not enforce that in any case. Otherwise Quay uses addresses only for its
    /// audit log and to choose a CDN.
    fn may_judge(&self, header: &HeaderName) -> bool {
        header != "x-forwarded-for" && !super::HARMLESS.contains(&header.as_str())
    }

    /// `data/model/oci/manifest.py:_build_blob_map`: a manifest is stored only if its local blobs are in the repository.
    /// Distribution may be configured not to look (`validation`), and does not as a pull-through cache.
    fn manifests_link(&self) -> bool {
        true
    }

    /// `endpoints/v2/blob.py:check_blob_exists`. The value is a typing error of Quay's.
    fn blob_headers(&self) -> HeaderMap {
        [(CACHE_CONTROL, HeaderValue::from_static("max-age=31436000"))].into_iter().collect()
    }

    /// `endpoints/v2/blob.py:check_blob_exists` answers 200 or an error, never a redirect.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool {
        status == StatusCode::OK && names(headers, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_413_within_the_limits_is_a_502_in_disguise() {
        let html: HeaderMap = [(CONTENT_TYPE, "text/html".parse().expect("a value"))].into_iter().collect();
        let json: HeaderMap =
            [(CONTENT_TYPE, "application/json".parse().expect("a value"))].into_iter().collect();
        let masked = |repository, length, status: u16, headers| {
            let status = StatusCode::from_u16(status).expect("a status");
            is_masked_bad_gateway(&UploadRefusal { repository, length, status, headers, layer_max: 20 << 30 })
        };
        let (app, library) = (Some("org/app"), Some("app"));
        assert!(masked(app, Some(2 << 20), 413, &html));
        assert!(masked(app, Some(20 << 30), 413, &html));
        assert!(masked(app, None, 413, &html));
        assert!(!masked(app, Some((20 << 30) + 1), 413, &html), "really too large");
        assert!(!masked(library, Some(2 << 20), 413, &html), "really too large there");
        assert!(!masked(app, Some(2 << 20), 413, &json), "not nginx's page");
        assert!(!masked(app, Some(2 << 20), 400, &html));
        assert!(!masked(None, Some(2 << 20), 413, &html), "no upload");
    }
}
