//! How often blobs that are not cached were asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backends::Digest;

/// Blobs whose requests are remembered.
const BLOBS_MAX: u64 = 100_000;

/// How long a blob's requests are remembered after the last of them.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Counts the requests for each blob: those under way, and those whose client stayed to the end. If a client
/// leaves before, its request does not count.
#[derive(Debug)]
pub(super) struct Demand(moka::sync::Cache<Digest, Arc<AtomicU32>>);

/// One request for a blob. It counts while it exists, and after that if it was served.
#[derive(Debug)]
pub(super) struct Request {
    count: Arc<AtomicU32>,
    served: bool,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(BLOBS_MAX).time_to_idle(MEMORY).build())
    }

    /// Counts one more request.
    pub(super) fn begin(&self, digest: &Digest) -> Request {
        let count = self.0.get_with(*digest, Arc::default);
        count.fetch_add(1, Ordering::AcqRel);
        Request { count, served: false }
    }

    /// Requests that count.
    pub(super) fn requests(&self, digest: &Digest) -> u32 {
        self.0.get(digest).map_or(0, |count| count.load(Ordering::Acquire))
    }
}

impl Request {
    /// The client has stayed to the end.
    pub(super) fn served(&mut self) {
        self.served = true;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.served {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
