//! What the index knows of a blob.

use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of one unit of weight: moka weighs in 32 bits, and 2^32 of these are 16 TiB.
const BLOCK: u64 = 4096;

/// A blob in the index: whole, or room kept for one on its way in.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    whole: AtomicBool,
    /// Whether its bytes are known to be right. Those written before a power loss are not.
    proven: AtomicBool,
}

impl Entry {
    /// Room for a blob on its way in.
    pub(super) fn room(size: u64) -> Self {
        Self { size, whole: AtomicBool::new(false), proven: AtomicBool::new(true) }
    }

    /// A file that a restart found.
    pub(super) fn found(size: u64, proven: bool) -> Self {
        Self { size, whole: AtomicBool::new(true), proven: AtomicBool::new(proven) }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    pub(super) fn set_whole(&self) {
        self.whole.store(true, Ordering::Release);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    pub(super) fn set_proven(&self) {
        self.proven.store(true, Ordering::Release);
    }

    /// Its weight in blocks.
    pub(super) fn weight(&self) -> u32 {
        blocks(self.size)
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
