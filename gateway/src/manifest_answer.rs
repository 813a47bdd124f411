//! What the registry's answer about a manifest says of it.

use backends::Digest;
use gateway_http::content_length;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use registry::named_digest;

/// A manifest that an answer announces, so that its bytes can be verified.
pub(crate) struct ManifestAnswer {
    /// The digest that the registry named.
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
    /// The bytes that the answer has.
    pub(crate) size: usize,
}

impl ManifestAnswer {
    /// What these headers say. `None` if they lack something, or if the bytes are encoded.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        Some(Self {
            digest: named_digest(headers)?,
            content_type: headers.get(CONTENT_TYPE)?.to_str().ok()?.to_owned(),
            size: usize::try_from(content_length(headers)?).ok()?,
        })
    }
}
