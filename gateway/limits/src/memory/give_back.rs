//! Returns freed memory to the system.
//!
//! glibc's `free` keeps memory below the top of a heap for later allocations. After a peak, such as thousands
//! of clients that read nothing, nearly all of that memory stays with the process, although a container's
//! limit counts it. `malloc_trim` returns whole free pages of every arena.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Memory;

/// The interval between two checks of the reserved memory.
const LOOK: Duration = Duration::from_secs(1);

/// The least fall, in reserved bytes, after which a trim is worth its cost: it walks all free chunks and
/// takes milliseconds.
const FALL_MIN: u64 = 8 * 1024 * 1024;

/// The growth since the last trim, in bytes, after which another trim is worth its cost, even if the reserved memory
/// did not fall: memory that was never reserved stays with the process too.
const GROWTH_MIN: u64 = 32 * 1024 * 1024;

/// The least interval between two trims because of growth. The memory may still be in use.
const GROWTH_PAUSE: Duration = Duration::from_secs(60);

/// The process's size after the last trim, or at its smallest since.
#[derive(Debug)]
struct Floor {
    resident: u64,
    trimmed: Instant,
}

impl Floor {
    /// Whether the process has grown so much that a trim is worth its cost.
    fn is_left(&mut self, resident: u64, now: Instant) -> bool {
        self.resident = self.resident.min(resident);
        resident - self.resident >= GROWTH_MIN && now >= self.trimmed + GROWTH_PAUSE
    }
}

/// The anonymous memory of the process in bytes; 0 if the kernel does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    anonymous.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Whether the reserved memory has fallen so far below the peak that a trim is worth its cost. `last` is the
/// value at the previous check: while the value still falls, a trim would come too early.
fn has_fallen(reserved: u64, last: u64, peak: u64) -> bool {
    reserved >= last && reserved < peak / 2 && peak - reserved >= FALL_MIN
}

/// Trims the heap after each such fall, and after the process has grown, until `stop`.
pub async fn give_back(memory: Memory, stop: CancellationToken) {
    let mut last = 0;
    let mut floor = Floor { resident: resident(), trimmed: Instant::now() };
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let (reserved, peak) = memory.state().ledger.used_and_peak();
        let size = resident();
        if has_fallen(reserved, last, peak) || floor.is_left(size, Instant::now()) {
            memory.state().ledger.begin_peak();
            tracing::debug!(reserved, peak, size, "freed memory is returned to the system");
            // The trim holds each arena's lock while it walks the arena.
            let _ = tokio::task::spawn_blocking(trim).await;
            floor = Floor { resident: resident(), trimmed: Instant::now() };
        }
        last = reserved;
    }
}

/// Makes the allocator return its free pages.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: `malloc_trim(3)` accepts any pad, is thread-safe, and touches only free chunks. This process
    // allocates with glibc's `malloc`, because no other global allocator is set.
    unsafe { libc::malloc_trim(0) };
}

/// The allocators of other C libraries return memory by themselves, or have no such function.
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
    fn a_trim_follows_a_large_fall_that_has_ended() {
        assert!(has_fallen(2 * FALL_MIN, 2 * FALL_MIN, 100 * FALL_MIN));
        assert!(!has_fallen(2 * FALL_MIN, 10 * FALL_MIN, 100 * FALL_MIN), "the value still falls");
        assert!(
            !has_fallen(50 * FALL_MIN, 50 * FALL_MIN, 100 * FALL_MIN),
            "half of the peak is still reserved"
        );
        assert!(!has_fallen(0, 0, FALL_MIN - 1), "too little");
        assert!(has_fallen(0, 0, FALL_MIN));
    }
}
