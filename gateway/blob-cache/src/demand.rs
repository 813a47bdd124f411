//! How often blobs that are not here were asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backends::Digest;
use futures_util::StreamExt as _;

use super::fill::Opened;

/// Blobs remembered, and for how long after they were last asked for.
const BLOBS_MAX: u64 = 100_000;
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Requests for each blob: those under way, and those whose client stayed to the end. A client that leaves
/// before counts for nothing.
#[derive(Debug)]
pub(super) struct Demand(moka::sync::Cache<Digest, Arc<AtomicU32>>);

/// One request for a blob, from its beginning on.
#[derive(Debug)]
pub(super) struct Asked {
    count: Arc<AtomicU32>,
    served: bool,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(BLOBS_MAX).time_to_idle(MEMORY).build())
    }

    /// One more request.
    pub(super) fn ask(&self, digest: &Digest) -> Asked {
        let count = self.0.get_with(*digest, Arc::default);
        count.fetch_add(1, Ordering::AcqRel);
        Asked { count, served: false }
    }

    /// Requests so far.
    pub(super) fn requests(&self, digest: &Digest) -> u32 {
        self.0.get(digest).map_or(0, |count| count.load(Ordering::Acquire))
    }
}

impl Asked {
    /// The client has stayed to the end.
    pub(super) fn served(&mut self) {
        self.served = true;
    }

    /// Stays with a body that is not kept.
    pub(super) fn until_read(self, opened: Opened) -> Opened {
        let state = Some((opened.body, self));
        let body = futures_util::stream::unfold(state, |state| async move {
            let (mut body, mut asked) = state?;
            match body.next().await {
                Some(Ok(bytes)) => Some((Ok(bytes), Some((body, asked)))),
                Some(Err(error)) => Some((Err(error), None)),
                None => {
                    asked.served();
                    None
                }
            }
        });
        Opened { body: body.boxed(), ..opened }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.served {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
