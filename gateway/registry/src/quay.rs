//! Red Hat Quay.

use backends::{Digest, Key};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, StatusCode};

use super::{Registry, names};

/// The bytes that Quay's nginx takes where it does not know a request for one about blobs: of uploads to
/// repositories without a namespace (`conf/nginx/server-base.conf.jnj`; nginx's default
/// `client_max_body_size`).
const OTHER_BODY_MAX: u64 = 1024 * 1024;

/// An answer to a part of an upload that may be a refusal.
#[derive(Debug)]
pub struct Refused<'a> {
    /// The repository of the upload, if the path names one.
    pub repository: Option<&'a str>,
    /// Bytes that the request announced, or had sent when the answer came.
    pub length: Option<u64>,
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: &'a HeaderMap,
    /// Quay's `MAXIMUM_LAYER_SIZE` in bytes.
    pub layer_max: u64,
}

/// Whether a 413 is a 502 in disguise. Where Quay breaks off, its nginx turns its 502 into a page of its own
/// (`error_page 502 /502.html`), for whose path a body of more than 1 MiB is too large. A body that
/// is within the limits of its own path is never refused with 413.
pub fn is_masked_bad_gateway(refused: &Refused<'_>) -> bool {
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

    /// Quay's answer to `HEAD` depends on no address (`endpoints/v2/blob.py:check_blob_exists`). Up to 3.16 its
    /// answer to `GET` may: `download_blob` there refuses regions that a namespace shuts out
    /// (`check_region_blacklisted`). `HEAD` is what is asked, so the gateway does not enforce that, whatever
    /// yeses are remembered by. Else what Quay knows of addresses goes to its audit log and chooses a CDN.
    fn may_judge(&self, header: &HeaderName) -> bool {
        header != "x-forwarded-for" && !super::HARMLESS.contains(&header.as_str())
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
            is_masked_bad_gateway(&Refused { repository, length, status, headers, layer_max: 20 << 30 })
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
