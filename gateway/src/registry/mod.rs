//! What differs between registries: one small trait, one file a registry.

mod challenge;
mod distribution;
mod escapes;
mod manifest;
mod names;
mod quay;
mod route;

use std::fmt::Debug;
use std::sync::Arc;

use backends::{Digest, Key};
use http::{HeaderMap, StatusCode};

pub(crate) use challenge::Bearer;
pub use escapes::unescaped;
pub use manifest::{LocalBlob, children, local_blobs};
pub use names::Names;
pub use route::{Route, repeatable, upload_repository};

use crate::config::{RegistryKind, Settings};

/// A registry's key layout and quirks. A third registry is one more file that implements this.
pub trait Registry: Debug + Send + Sync {
    /// Where a blob lies below a zone's root.
    fn blob_key(&self, digest: &Digest) -> Key;

    /// Whether this answer to `HEAD /v2/<repository>/blobs/<digest>` says that the client may
    /// read the blob: it must name the blob, so that no page of a proxy in between is taken for a
    /// yes.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool;
}

/// Whether an answer is about this digest; both registries send it with every 200
/// (Quay's `endpoints/v2/blob.py:check_blob_exists`, distribution's
/// `registry/storage/blobserver.go:ServeBlob`).
fn names(headers: &HeaderMap, digest: &Digest) -> bool {
    headers
        .get("docker-content-digest")
        .is_some_and(|value| value.as_bytes() == digest.to_string().as_bytes())
}

/// The registry that the settings name.
#[must_use]
pub fn registry(settings: &Settings) -> Arc<dyn Registry> {
    of_kind(settings.registry_kind)
}

/// The registry of a kind.
#[must_use]
pub fn of_kind(kind: RegistryKind) -> Arc<dyn Registry> {
    match kind {
        RegistryKind::Quay => Arc::new(quay::Quay),
        RegistryKind::Distribution => Arc::new(distribution::Distribution),
    }
}
