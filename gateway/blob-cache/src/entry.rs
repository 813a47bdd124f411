//! What the index knows of a blob.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Bytes of one unit of weight: moka weighs in 32 bits, and 2^32 of these are 16 TiB.
const BLOCK: u64 = 4096;

/// A blob in the index: whole, or room kept for one on its way in.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    whole: AtomicBool,
    /// For a file that has to be proven before it is served.
    trial: Option<Box<Trial>>,
}

/// The proof of one file, under way or ended.
#[derive(Debug)]
pub(super) struct Trial {
    begun: AtomicBool,
    verdict: watch::Sender<Option<bool>>,
}

impl Entry {
    /// Room for a blob on its way in.
    pub(super) fn room(size: u64) -> Self {
        Self { size, whole: AtomicBool::new(false), trial: None }
    }

    /// A file that a restart found.
    pub(super) fn found(size: u64, trusted: bool) -> Self {
        let trial = (!trusted)
            .then(|| Box::new(Trial { begun: AtomicBool::new(false), verdict: watch::Sender::new(None) }));
        Self { size, whole: AtomicBool::new(true), trial }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    pub(super) fn set_whole(&self) {
        self.whole.store(true, Ordering::Release);
    }

    /// The trial that still stands between this file and its readers.
    pub(super) fn trial(&self) -> Option<&Trial> {
        self.trial.as_deref().filter(|trial| *trial.verdict.borrow() != Some(true))
    }

    /// Whole, and to be trusted.
    pub(super) fn is_servable(&self) -> bool {
        self.is_whole() && self.trial().is_none()
    }

    /// Its weight in blocks.
    pub(super) fn weight(&self) -> u32 {
        blocks(self.size)
    }
}

impl Trial {
    /// Whether the caller is the one to hold it.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// It could not be held just now; the next reader may try again.
    pub(super) fn adjourn(&self) {
        self.begun.store(false, Ordering::Release);
    }

    pub(super) fn end(&self, right: bool) {
        self.verdict.send_replace(Some(right));
    }

    pub(super) fn verdict(&self) -> watch::Receiver<Option<bool>> {
        self.verdict.subscribe()
    }
}

/// Bytes as blocks, rounded up: a file takes whole blocks of the disk.
pub(super) fn blocks(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK).max(1)).unwrap_or(u32::MAX)
}

/// Blocks as bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK)
}
