//! Red Hat Quay.

use backends::{Digest, Key};
use http::{HeaderMap, HeaderName, StatusCode};

use super::{Registry, names};

/// Quay's layout and quirks.
#[derive(Debug)]
pub(super) struct Quay;

impl Registry for Quay {
    /// `sha256/<first two hex>/<hex>` (`digest/digest_tools.py:content_path`).
    fn blob_key(&self, digest: &Digest) -> Key {
        let hex = digest.hex();
        Key::new(format!("sha256/{}/{hex}", &hex[..2]))
    }

    /// Quay's word on a blob depends on no address (`endpoints/v2/blob.py:check_blob_exists`); what it
    /// knows of addresses goes to its audit log and chooses a CDN.
    fn may_judge(&self, header: &HeaderName) -> bool {
        header != "x-forwarded-for" && !super::HARMLESS.contains(&header.as_str())
    }

    /// `endpoints/v2/blob.py:check_blob_exists` answers 200 or an error, never a redirect.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool {
        status == StatusCode::OK && names(headers, digest)
    }
}
