//! Signs of life: when a zone last gave any bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time when one zone last answered a read or gave bytes of a body. Uses no lock.
#[derive(Debug)]
pub(crate) struct LastSign {
    began: Instant,
    /// Microseconds since `began`. 0 if there was no sign yet.
    latest: AtomicU64,
}

impl LastSign {
    /// No sign yet.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), latest: AtomicU64::new(0) }
    }

    /// The zone gave something just now.
    pub(crate) fn note(&self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latest.fetch_max(micros.max(1), Ordering::Relaxed);
    }

    /// Whether the zone gave anything after `then`.
    pub(crate) fn is_after(&self, then: Instant) -> bool {
        let latest = self.latest.load(Ordering::Relaxed);
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
        let sign = LastSign::new();
        let start = Instant::now();
        assert!(!sign.is_after(start));
        sleep(MS).await;
        sign.note();
        assert!(sign.is_after(start) && !sign.is_after(Instant::now()));
    }
}
