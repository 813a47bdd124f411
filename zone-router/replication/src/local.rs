//! Copies that are nearer than any zone.

use std::fmt::Debug;

use async_trait::async_trait;
use backends::{Digest, Source};

/// A store of blobs that is not a zone, such as a disk cache.
#[async_trait]
pub trait Local: Debug + Send + Sync {
    /// The blob, if it is stored completely and is verified. Implementations bound the time this takes.
    async fn find(&self, digest: &Digest) -> Option<Source>;

    /// Takes back the trust in a blob: a copy found that the bytes it got from here are not the blob. The blob is
    /// verified again before anybody gets it. Implementations bound the time this takes.
    async fn distrust(&self, digest: &Digest);
}
