//! An entry of the index: what it knows of a blob.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// The unit in which space is counted, in bytes: a file takes whole disk blocks.
const BLOCK: u64 = 4096;

/// A whole blob in the index.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    /// Present if the file must be hashed before it is served.
    recheck: Option<Box<Recheck>>,
    /// When it was last used or written, in seconds since 1970.
    used: AtomicU64,
}

/// The hashing of one file: not begun, under way, or ended.
#[derive(Debug)]
pub(super) struct Recheck {
    begun: AtomicBool,
    verdict: watch::Sender<Option<bool>>,
}

impl Entry {
    /// The entry of a blob that a fill has proven.
    pub(super) fn proven(size: u64) -> Self {
        Self { size, recheck: None, used: AtomicU64::new(now()) }
    }

    /// The entry of a file that a restart found, or that is no longer trusted.
    pub(super) fn found(size: u64, trusted: bool) -> Self {
        let recheck = (!trusted)
            .then(|| Box::new(Recheck { begun: AtomicBool::new(false), verdict: watch::Sender::new(None) }));
        Self { size, recheck, used: AtomicU64::new(now()) }
    }

    /// The recheck that this file must pass before it is served.
    pub(super) fn recheck(&self) -> Option<&Recheck> {
        self.recheck.as_deref().filter(|recheck| *recheck.verdict.borrow() != Some(true))
    }

    /// Whether its bytes are trusted.
    pub(super) fn is_servable(&self) -> bool {
        self.recheck().is_none()
    }

    /// Records a use.
    pub(super) fn touch(&self) {
        self.used.store(now(), Ordering::Relaxed);
    }

    /// The same entry, last used at this time.
    pub(super) fn used_since(self, at: SystemTime) -> Self {
        self.used.store(seconds(at), Ordering::Relaxed);
        self
    }

    /// When it was last used or written, exact to a second.
    pub(super) fn used_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.used.load(Ordering::Relaxed))
    }

    /// The number of blocks of the blob.
    pub(super) fn blocks(&self) -> u64 {
        blocks(self.size)
    }
}

impl Recheck {
    /// Starts the hashing. Returns whether the caller must do it.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// Records that the hashing could not be done now. The next reader may try again.
    pub(super) fn postpone(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Tells all who wait whether the file is right.
    pub(super) fn end(&self, right: bool) {
        self.verdict.send_replace(Some(right));
    }

    /// A receiver of whether the file is right. The value is `None` until that is known.
    pub(super) fn verdict(&self) -> watch::Receiver<Option<bool>> {
        self.verdict.subscribe()
    }
}

fn now() -> u64 {
    seconds(SystemTime::now())
}

fn seconds(at: SystemTime) -> u64 {
    // A file may be dated before 1970, or far in the future.
    let most = Duration::from_secs(u64::from(u32::MAX));
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(most).as_secs()
}

/// Converts bytes to blocks, rounded up.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).max(1)
}

/// Converts blocks to bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK)
}
