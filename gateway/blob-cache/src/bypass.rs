//! A blob that is streamed and not kept.

use std::io;

use zone_router::Verified;

use crate::demand::Request;
use crate::disk::is_busy;

/// A request whose blob is not kept, and the reason.
#[derive(Debug)]
pub struct Bypass {
    reason: BypassReason,
    request: Request,
}

/// Why a blob is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BypassReason {
    /// It is larger than the cache.
    TooLarge,
    /// The disk has no space above the reserve, or fails.
    Disk,
    /// The most allowed fills are running, or fills have been promised the whole cache, or the disk has as much work as
    /// allowed.
    Busy,
    /// The size is not known before the end of the blob.
    UnknownSize,
    /// The cache is full, and requests of a single client evict nothing.
    AskedOnce,
}

impl Bypass {
    pub(crate) fn new(reason: BypassReason, request: Request) -> Self {
        Self { reason, request }
    }

    /// Why the blob is not kept.
    #[must_use]
    pub fn reason(&self) -> BypassReason {
        self.reason
    }

    /// The body for this client. If the client reads it to its end, the request counts as demand, so that
    /// the next request for the blob may evict others.
    #[must_use]
    pub fn stream(self, body: Verified) -> Verified {
        let mut request = self.request;
        body.when_proven(move || request.served())
    }
}

impl BypassReason {
    /// The reason if the disk work for the blob failed.
    pub(crate) fn of_disk(error: &io::Error) -> Self {
        if is_busy(error) { Self::Busy } else { Self::Disk }
    }

    /// A word for `Cache-Status` and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Disk => "disk",
            Self::Busy => "busy",
            Self::UnknownSize => "unknown-size",
            Self::AskedOnce => "asked-once",
        }
    }
}
