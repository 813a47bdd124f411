//! Gives freed memory back to the system.
//!
//! glibc's `free` keeps what lies below the top of a heap for later allocations. After a peak, such as
//! thousands of clients that read nothing, nearly all of it stays with the process, although a container's
//! limit counts it. `malloc_trim` gives whole free pages back, of every arena.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Memory;

/// From one look at what is reserved to the next.
const LOOK: Duration = Duration::from_secs(1);

/// A fall of so many reserved bytes is worth a trim: it walks all free chunks, and takes milliseconds.
const FALL_MIN: u64 = 8 * 1024 * 1024;

/// Whether so much less is reserved than at the peak that a trim is worth it. While it still falls, as `last` tells
/// of the look before, a trim would come too early.
fn has_fallen(reserved: u64, last: u64, peak: u64) -> bool {
    reserved >= last && reserved < peak / 2 && peak - reserved >= FALL_MIN
}

/// Trims the heap each time that much less is reserved than before, until `stop`.
pub async fn give_back(memory: Memory, stop: CancellationToken) {
    let mut last = 0;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let (reserved, peak) = memory.state().ledger.used_and_peak();
        if has_fallen(reserved, last, peak) {
            memory.state().ledger.begin_peak();
            tracing::debug!(reserved, peak, "freed memory goes back to the system");
            // It holds each arena's lock for as long as it walks it.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
        last = reserved;
    }
}

/// Has the allocator give its free pages back.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: `malloc_trim(3)` takes any pad, is thread-safe, and touches free chunks alone. This process
    // allocates by glibc's `malloc`: no other global allocator is set.
    unsafe { libc::malloc_trim(0) };
}

/// Other libraries' allocators give back by themselves, or cannot be told to.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_is_one_that_is_far_enough_and_has_ended() {
        assert!(has_fallen(2 * FALL_MIN, 2 * FALL_MIN, 100 * FALL_MIN));
        assert!(!has_fallen(2 * FALL_MIN, 10 * FALL_MIN, 100 * FALL_MIN), "it falls still");
        assert!(!has_fallen(50 * FALL_MIN, 50 * FALL_MIN, 100 * FALL_MIN), "half is there still");
        assert!(!has_fallen(0, 0, FALL_MIN - 1), "too little");
        assert!(has_fallen(0, 0, FALL_MIN));
    }
}
