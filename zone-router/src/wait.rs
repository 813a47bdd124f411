//! Measures how long this process waited for a result, and how long the result waited for this process.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// A waker that records when the result of a wait was ready.
#[derive(Debug)]
pub(crate) struct Bell {
    began: Instant,
    /// Microseconds since `began`. 0 until the bell rings.
    rang: AtomicU64,
    waiter: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        // The first wake-up counts. From then on, the result waits for this process.
        let _ = self.rang.compare_exchange(0, micros.max(1), Ordering::Relaxed, Ordering::Relaxed);
        self.waiter.wake();
    }
}

/// The two parts of a wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waited {
    /// The time until the result was ready.
    pub(crate) until_ready: Duration,
    /// The time from then until this process took the result. A task may write to a slow disk, or a client may be slow.
    pub(crate) until_taken: Duration,
}

impl Bell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), rang: AtomicU64::new(0), waiter: AtomicWaker::new() })
    }

    /// Waits for `work`, and measures both parts of the wait. There may be only one wait at a time.
    pub(crate) async fn attend<F: Future>(self: &Arc<Self>, work: F) -> (F::Output, Waited) {
        let waker = Waker::from(Arc::clone(self));
        let mut work = pin!(work);
        let mut waiting: Option<Instant> = None;
        let mut waited = Waited::default();
        let done = poll_fn(|context| {
            if let Some(since) = waiting.take() {
                let now = Instant::now();
                let there = self.rang().unwrap_or(now).clamp(since, now);
                waited.until_ready += there - since;
                waited.until_taken += now - there;
            }
            self.rang.store(0, Ordering::Relaxed);
            self.waiter.register(context.waker());
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                waiting = Some(Instant::now());
            }
            polled
        });
        (done.await, waited)
    }

    fn rang(&self) -> Option<Instant> {
        let micros = self.rang.load(Ordering::Relaxed);
        (micros > 0).then(|| self.began + Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn whose_time_it_was() {
        let bell = Bell::new();
        let ((), waited) = bell.attend(sleep(30 * MS)).await;
        assert_eq!(waited, Waited { until_ready: 30 * MS, until_taken: Duration::ZERO });
        // The work is polled once, and then left alone for longer than it takes.
        let mut work = Box::pin(bell.attend(sleep(30 * MS)));
        let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending()));
        assert!(first.await);
        sleep(500 * MS).await;
        let ((), waited) = work.await;
        assert_eq!(waited, Waited { until_ready: 30 * MS, until_taken: 470 * MS });
    }
}
