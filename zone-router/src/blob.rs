//! A blob, and where it lies in every zone.

use backends::{Digest, Key};

/// A blob: its digest names its bytes, its key names its place below each zone's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Where it lies. It is the same in every zone, because zones differ only in their roots.
    pub key: Key,
}
