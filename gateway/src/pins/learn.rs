//! The one place where a manifest that did not come for a client is told of.

use bytes::Bytes;

use crate::Gateway;

/// Tells whatever keeps manifests of one that the gateway read for a pin, or that an operator imported. It gives nobody a
/// right to read.
pub(crate) fn learn(_gateway: &Gateway, repository: &str, reference: &str, media_type: &str, bytes: &Bytes) {
    tracing::debug!(repository, reference, media_type, bytes = bytes.len(), "a manifest is told of");
}
