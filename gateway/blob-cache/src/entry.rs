//! What the index knows of a blob.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Bytes in which space is counted: a file takes whole blocks of the disk.
const BLOCK: u64 = 4096;

/// A whole blob in the index.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    /// For a file that must be hashed before it is served.
    recheck: Option<Box<Recheck>>,
}

/// The hashing of one file: not begun, under way or ended.
#[derive(Debug)]
pub(super) struct Recheck {
    begun: AtomicBool,
    verdict: watch::Sender<Option<bool>>,
}

impl Entry {
    /// For a blob that a fill has proven.
    pub(super) fn proven(size: u64) -> Self {
        Self { size, recheck: None }
    }

    /// A file that a restart found, or that is not trusted any more.
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

    /// Its blocks.
    pub(super) fn blocks(&self) -> u64 {
        blocks(self.size)
    }
}

impl Recheck {
    /// Whether the caller is the one to do it.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// It could not be done now; the next reader may try again.
    pub(super) fn postpone(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Tells all who wait whether the file is right.
    pub(super) fn end(&self, right: bool) {
        self.verdict.send_replace(Some(right));
    }

    /// Whether the file is right, once that is known.
    pub(super) fn verdict(&self) -> watch::Receiver<Option<bool>> {
        self.verdict.subscribe()
    }
}

/// Bytes as blocks, rounded up.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).max(1)
}

/// Blocks as bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK)
}
