//! What differs between registries: one small trait, one file a registry.

mod distribution;
mod manifest;
mod names;
mod quay;
mod route;

use std::fmt::Debug;
use std::sync::Arc;

use backends::{Digest, Key};
use http::{HeaderValue, StatusCode};

pub use manifest::{LocalBlob, local_blobs};
pub use names::Names;
pub use route::Route;

use crate::config::{RegistryKind, Settings};

/// A registry's key layout and quirks. A third registry is one more file that implements this.
pub trait Registry: Debug + Send + Sync {
    /// Where a blob lies below a zone's root.
    fn blob_key(&self, digest: &Digest) -> Key;

    /// Whether this answer to `HEAD /v2/<repository>/blobs/<digest>` says that the client may
    /// read the blob.
    fn permits(&self, status: StatusCode) -> bool;

    /// The `Host` that the registry is to see.
    fn host(&self, registry: &HeaderValue, client: Option<&HeaderValue>) -> HeaderValue;
}

/// The registry that the settings name.
#[must_use]
pub fn registry(settings: &Settings) -> Arc<dyn Registry> {
    match settings.registry_kind {
        RegistryKind::Quay => Arc::new(quay::Quay),
        RegistryKind::Distribution => Arc::new(distribution::Distribution),
    }
}
