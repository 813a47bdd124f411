//! What the index knows of a blob.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Bytes of one unit of weight: moka weighs in 32 bits, and 2^32 of these are 16 TiB.
const BLOCK: u64 = 4096;

/// A blob in the index: whole, or a reservation for one on its way in.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    whole: AtomicBool,
    /// For a file that must be hashed before it is served.
    recheck: Option<Box<Recheck>>,
}

/// The hashing of one file after a reboot: not begun, under way or ended.
#[derive(Debug)]
pub(super) struct Recheck {
    begun: AtomicBool,
    verdict: watch::Sender<Option<bool>>,
}

impl Entry {
    /// For a blob on its way in.
    pub(super) fn reserved(size: u64) -> Self {
        Self { size, whole: AtomicBool::new(false), recheck: None }
    }

    /// A file that a restart found.
    pub(super) fn found(size: u64, trusted: bool) -> Self {
        let recheck = (!trusted)
            .then(|| Box::new(Recheck { begun: AtomicBool::new(false), verdict: watch::Sender::new(None) }));
        Self { size, whole: AtomicBool::new(true), recheck }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    pub(super) fn set_whole(&self) {
        self.whole.store(true, Ordering::Release);
    }

    /// The recheck that this file must pass before it is served.
    pub(super) fn recheck(&self) -> Option<&Recheck> {
        self.recheck.as_deref().filter(|recheck| *recheck.verdict.borrow() != Some(true))
    }

    /// Whether it is whole and trusted.
    pub(super) fn is_servable(&self) -> bool {
        self.is_whole() && self.recheck().is_none()
    }

    /// Its weight in blocks.
    pub(super) fn weight(&self) -> u32 {
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

/// Bytes as blocks, rounded up: a file takes whole blocks of the disk.
pub(super) fn blocks(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK).max(1)).unwrap_or(u32::MAX)
}

/// Blocks as bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK)
}
