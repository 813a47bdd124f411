//! Gives freed memory back to the system.
//!
//! glibc's `free` keeps what lies below the top of a heap for later allocations. After a peak, such as
//! thousands of clients that read nothing, nearly all of it stays with the process, although a container's
//! limit counts it. `malloc_trim` gives whole free pages back, of every arena.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Memory;

/// From one look at what is reserved to the next.
const LOOK: Duration = Duration::from_secs(1);

/// A fall of so many reserved bytes is worth a trim: it walks all free chunks, and takes milliseconds.
const FALL_MIN: u64 = 8 * 1024 * 1024;

/// So much more memory than after the last trim is worth another, however little less is reserved: what came and went
/// unreserved, a little each time, stays with the process too.
const GROWTH_MIN: u64 = 32 * 1024 * 1024;

/// Between two trims for that reason: the memory may be in use.
const GROWTH_PAUSE: Duration = Duration::from_secs(60);

/// The process's size after the last trim, or at its smallest since.
#[derive(Debug)]
struct Floor {
    resident: u64,
    trimmed: Instant,
}

impl Floor {
    /// Whether the process has grown so much that a trim is worth it.
    fn is_left(&mut self, resident: u64, now: Instant) -> bool {
        self.resident = self.resident.min(resident);
        resident - self.resident >= GROWTH_MIN && now >= self.trimmed + GROWTH_PAUSE
    }
}

/// Memory that the process has and no file, in bytes; 0 where the kernel does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    anonymous.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Whether so much less is reserved than at the peak that a trim is worth it. While it still falls, as `last` tells
/// of the look before, a trim would come too early.
fn has_fallen(reserved: u64, last: u64, peak: u64) -> bool {
    reserved >= last && reserved < peak / 2 && peak - reserved >= FALL_MIN
}

/// Trims the heap each time that much less is reserved than before, or that the process has grown, until `stop`.
pub async fn give_back(memory: Memory, stop: CancellationToken) {
    let mut last = 0;
    let mut floor = Floor { resident: resident(), trimmed: Instant::now() };
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let (reserved, peak) = memory.state().ledger.used_and_peak();
        let size = resident();
        if has_fallen(reserved, last, peak) || floor.is_left(size, Instant::now()) {
            memory.state().ledger.begin_peak();
            tracing::debug!(reserved, peak, size, "freed memory goes back to the system");
            // It holds each arena's lock for as long as it walks it.
            let _ = tokio::task::spawn_blocking(trim).await;
            floor = Floor { resident: resident(), trimmed: Instant::now() };
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

    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_grown_gives_back_now_and_then() {
        let start = Instant::now();
        let mut floor = Floor { resident: 3 * GROWTH_MIN, trimmed: start };
        let later = start + GROWTH_PAUSE;
        assert!(!floor.is_left(4 * GROWTH_MIN, later - Duration::from_secs(1)), "it was just trimmed");
        assert!(floor.is_left(4 * GROWTH_MIN, later));
        assert!(!floor.is_left(4 * GROWTH_MIN - 1, later));
        assert!(!floor.is_left(2 * GROWTH_MIN, later));
        assert!(floor.is_left(3 * GROWTH_MIN, later), "since it was at its smallest");
        assert!(resident() > 0);
    }

    #[test]
    fn a_fall_is_one_that_is_far_enough_and_has_ended() {
        assert!(has_fallen(2 * FALL_MIN, 2 * FALL_MIN, 100 * FALL_MIN));
        assert!(!has_fallen(2 * FALL_MIN, 10 * FALL_MIN, 100 * FALL_MIN), "it falls still");
        assert!(!has_fallen(50 * FALL_MIN, 50 * FALL_MIN, 100 * FALL_MIN), "half is there still");
        assert!(!has_fallen(0, 0, FALL_MIN - 1), "too little");
        assert!(has_fallen(0, 0, FALL_MIN));
    }
}
