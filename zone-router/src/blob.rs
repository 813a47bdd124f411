//! A blob, and where it lies in every zone.

use backends::{Digest, Key};

/// A blob: its digest names its bytes, its key names its place below each zone's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blob {
    /// What its bytes are.
    pub digest: Digest,
    /// Where it lies; the same in every zone, as zones differ in root only.
    pub key: Key,
}
