//! Copies of blobs that are nearer than any zone.

use std::fmt::Debug;

use async_trait::async_trait;
use backends::{Digest, Source};

/// A store of blobs that is not a zone, such as a disk cache.
#[async_trait]
pub trait Local: Debug + Send + Sync {
    /// The blob, if it is stored completely and was verified. Implementations bound the time of this call.
    async fn find(&self, digest: &Digest) -> Option<Source>;

    /// Records that the bytes of a blob from here were found to be wrong. The blob must be verified again
    /// before anybody gets it. Implementations bound the time of this call.
    async fn distrust(&self, digest: &Digest);
}
