//! An entry of the index: what it knows of a blob.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The unit in which space is counted, in bytes: a file takes whole disk blocks.
const BLOCK: u64 = 4096;

/// A whole blob in the index.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    /// Present if the file must be hashed before it is served.
    recheck: Option<Box<Recheck>>,
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
        Self { size, recheck: None }
    }

    /// The entry of a file that a restart found, or that is no longer trusted.
    pub(super) fn found(size: u64, trusted: bool) -> Self {
        let recheck = (!trusted)
            .then(|| Box::new(Recheck { begun: AtomicBool::new(false), verdict: watch::Sender::new(None) }));
        Self { size, recheck }
    }

    /// The recheck that this file must pass before it is served.
    pub(super) fn recheck(&self) -> Option<&Recheck> {
        self.recheck.as_deref().filter(|recheck| *recheck.verdict.borrow() != Some(true))
    }

    /// Whether its bytes are trusted.
    pub(super) fn is_servable(&self) -> bool {
        self.recheck().is_none()
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

/// Converts bytes to blocks, rounded up.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).max(1)
}

/// Converts blocks to bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK)
}
