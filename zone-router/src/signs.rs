//! Signs of life: when each zone last gave anything at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// For each zone, when it last answered a read or gave bytes of a body. No locks.
#[derive(Debug)]
pub(crate) struct Signs {
    began: Instant,
    /// Microseconds since then; 0 where there was no sign yet.
    latest: Vec<AtomicU64>,
}

impl Signs {
    /// None yet, of so many zones.
    pub(crate) fn new(zones: usize) -> Self {
        Self { began: Instant::now(), latest: (0..zones).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A zone gave something just now.
    pub(crate) fn note(&self, zone: usize) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(latest) = self.latest.get(zone) {
            latest.fetch_max(micros.max(1), Ordering::Relaxed);
        }
    }

    /// Whether a zone has given anything after `then`.
    pub(crate) fn since(&self, zone: usize, then: Instant) -> bool {
        let latest = self.latest.get(zone).map_or(0, |latest| latest.load(Ordering::Relaxed));
        latest > 0 && self.began + Duration::from_micros(latest) > then
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_came_later_is_a_sign() {
        const MS: Duration = Duration::from_millis(1);
        let signs = Signs::new(2);
        let start = Instant::now();
        assert!(!signs.since(0, start));
        sleep(MS).await;
        signs.note(0);
        assert!(signs.since(0, start) && !signs.since(1, start) && !signs.since(0, Instant::now()));
    }
}
