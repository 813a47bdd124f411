//! A blob, and its place in every zone.

use backends::{Digest, Key};

/// A blob. The digest identifies its bytes. The key is its place below each zone's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The place of the blob. It is the same in every zone, because zones differ only in their roots.
    pub key: Key,
}
