//! Copies at hand, nearer than any zone.

use std::fmt::Debug;

use async_trait::async_trait;
use backends::{Digest, Source};

/// Something beside the zones that may hold blobs, such as a disk cache.
#[async_trait]
pub trait Local: Debug + Send + Sync {
    /// The blob, if it is here whole, and known to be right. Has a bound of its own in time.
    async fn find(&self, digest: &Digest) -> Option<Source>;
}
