//! How fast the blobs of a pin are read.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets at most so many bytes a second pass.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Bytes a second. `None` for no limit.
    rate: Option<u64>,
    /// When the bytes that have passed are paid for.
    paid: Arc<Mutex<Instant>>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, paid: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Completes when the next bytes may pass after these.
    pub(super) fn after(&self, bytes: usize) -> impl Future<Output = ()> + Send + use<> {
        let until = self.rate.map(|rate| {
            let mut paid = self.paid.lock();
            // What was not used in the past is not saved up.
            *paid = (*paid).max(Instant::now()) + cost(bytes as u64, rate);
            *paid
        });
        async move {
            if let Some(until) = until {
                tokio::time::sleep_until(until).await;
            }
        }
    }
}

/// The time that these bytes take at this rate.
fn cost(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_passes() {
        let (pace, began) = (Pace::new(Some(1000)), Instant::now());
        for _ in 0..10 {
            pace.after(500).await;
        }
        assert_eq!(began.elapsed().as_millis() / 10, 500);
        // A pause saves nothing up.
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.after(2000).await;
        assert_eq!(began.elapsed().as_millis() / 10, 200);
        let (unlimited, began) = (Pace::new(None), Instant::now());
        unlimited.after(usize::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
