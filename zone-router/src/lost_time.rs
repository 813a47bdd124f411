//! Time that this process has lost: it was due to run and did not run.
//!
//! If other processes use the processor, if a limit such as cgroup's `cpu.max` applies or if the process was stopped,
//! timers fire late and answers wait unread. No zone is the cause, so such time does not count against a zone.

use std::pin::pin;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often this process checks whether its timers fire late. After a late one, it checks ten times as often.
const BEAT: Duration = Duration::from_millis(50);

/// A timer that fires late by no more than this counts as punctual: Tokio's timers have a resolution of 1 ms.
const TOLERANCE: Duration = Duration::from_millis(3);

/// The lost time is logged once per this span, if it was at least a tenth of it.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The lost time as of one beat. Pure.
#[derive(Debug, Clone, Copy)]
struct Beat {
    /// When the next beat is due. `None` while nothing is measured.
    due: Option<Instant>,
    /// The time lost until this beat.
    lost: Duration,
}

impl Beat {
    /// The time lost until `now`. A beat that is overdue counts at once.
    fn lost(&self, now: Instant) -> Duration {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        self.lost + late.saturating_sub(TOLERANCE)
    }

    fn next(&self, now: Instant) -> Self {
        let lost = self.lost(now);
        let pause = if lost > self.lost { BEAT / 10 } else { BEAT };
        Self { due: Some(now + pause), lost }
    }
}

/// Measures how much time this process has lost since the measurement began.
#[derive(Debug)]
pub(crate) struct LostTime(ArcSwap<Beat>);

/// Measures how long something takes, without the time that this process lost meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    began: Instant,
    lost: Duration,
}

impl LostTime {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::from_pointee(Beat { due: None, lost: Duration::ZERO }))
    }

    /// The time lost so far.
    pub(crate) fn lost(&self) -> Duration {
        self.0.load().lost(Instant::now())
    }

    pub(crate) fn start(&self) -> Stopwatch {
        let now = Instant::now();
        Stopwatch { began: now, lost: self.0.load().lost(now) }
    }

    /// Waits for `work` until `bound` has passed, without counting lost time. Returns `None` if `work` is not done by
    /// then.
    pub(crate) async fn within<F: Future>(&self, bound: Duration, work: F) -> Option<F::Output> {
        let watch = self.start();
        let mut work = pin!(work);
        let mut left = bound;
        loop {
            if let Ok(done) = timeout(left, &mut work).await {
                return Some(done);
            }
            left = bound.saturating_sub(watch.elapsed(self));
            if left.is_zero() {
                return None;
            }
        }
    }

    /// Measures until `shutdown`. If much time is lost, logs a warning.
    pub(crate) async fn measure(&self, shutdown: CancellationToken) {
        let mut told = (Instant::now(), self.lost());
        self.0.store(self.0.load().next(Instant::now()).into());
        loop {
            let due = self.0.load().due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = sleep_until(due) => {}
            }
            let now = Instant::now();
            let beat = self.0.load().next(now);
            self.0.store(beat.into());
            if now.saturating_duration_since(told.0) >= TOLD_EVERY {
                tell(now - told.0, beat.lost - told.1);
                told = (now, beat.lost);
            }
        }
        // The measurement ends here.
        let lost = self.lost();
        self.0.store(Beat { due: None, lost }.into());
    }
}

impl Stopwatch {
    /// When the stopwatch was started.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The time lost since the start.
    pub(crate) fn lost(&self, lost_time: &LostTime) -> Duration {
        lost_time.lost().saturating_sub(self.lost)
    }

    /// The time since the start, without the lost time.
    pub(crate) fn elapsed(&self, lost_time: &LostTime) -> Duration {
        // The lost time is read first, because it may grow between the two reads.
        let lost = self.lost(lost_time);
        self.began.elapsed().saturating_sub(lost)
    }

    /// Whether a timeout since the start is not the zone's fault: this process lost at least half of the time.
    pub(crate) fn excuses(&self, lost_time: &LostTime) -> bool {
        let lost = self.lost(lost_time);
        !lost.is_zero() && lost * 2 >= self.began.elapsed()
    }
}

/// Whether the lost time is large enough to be logged.
fn is_much(lost: Duration, time: Duration) -> bool {
    lost >= time / 10
}

fn tell(time: Duration, lost: Duration) {
    if !is_much(lost, time) {
        return;
    }
    let (lost, of) = (format!("{:.1} s", lost.as_secs_f64()), format!("{:.0} s", time.as_secs_f64()));
    warn!(
        lost,
        of,
        "the gateway was due to run and did not: no zone is blamed for that time; give it more CPU (look at cpu.max \
         and at what else runs here)"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{advance, sleep};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn looking() -> (Arc<LostTime>, CancellationToken) {
        let (lost_time, shutdown) = (Arc::new(LostTime::new()), CancellationToken::new());
        let (looks, token) = (Arc::clone(&lost_time), shutdown.clone());
        tokio::spawn(async move { looks.measure(token).await });
        sleep(MS).await;
        (lost_time, shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_not_lost_and_a_stopped_process_is() {
        let (lost_time, _shutdown) = looking().await;
        let watch = lost_time.start();
        sleep(500 * MS).await;
        assert_eq!((watch.lost(&lost_time), watch.elapsed(&lost_time)), (Duration::ZERO, 500 * MS));
        assert!(!watch.excuses(&lost_time));
        advance(2000 * MS).await;
        let lost = watch.lost(&lost_time);
        assert!(lost > 1940 * MS && lost <= 2000 * MS, "{lost:?}");
        assert!(watch.excuses(&lost_time));
        // The lost time is the same after the late beat.
        sleep(50 * MS).await;
        assert!(watch.lost(&lost_time).abs_diff(lost) <= 3 * MS, "{:?} {lost:?}", watch.lost(&lost_time));
        assert!(watch.elapsed(&lost_time) < 620 * MS, "{:?}", watch.elapsed(&lost_time));
    }

    /// Tokio's timers fire up to a millisecond late.
    #[test]
    fn a_timer_that_is_late_by_its_resolution_loses_nothing() {
        let now = Instant::now();
        let mut beat = Beat { due: Some(now), lost: Duration::ZERO };
        for _ in 0..100 {
            let due = beat.due.expect("measured");
            beat = beat.next(due + MS);
        }
        assert_eq!(beat.lost, Duration::ZERO);
        assert_eq!(beat.due, Some(now + 100 * (BEAT + MS)), "it looks no closer");
    }

    #[test]
    fn a_tenth_of_a_minute_is_much() {
        assert_eq!(TOLD_EVERY, Duration::from_secs(60));
        assert!(is_much(Duration::from_secs(6), TOLD_EVERY) && !is_much(Duration::from_secs(5), TOLD_EVERY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_is_on_the_time_that_was_not_lost() {
        let (lost_time, _shutdown) = looking().await;
        let waits = Arc::clone(&lost_time);
        let waiting = tokio::spawn(async move { waits.within(300 * MS, sleep(800 * MS)).await });
        sleep(100 * MS).await;
        let began = Instant::now();
        advance(600 * MS).await;
        // This process lost 600 of the 800 ms, so the work is done before its bound.
        assert_eq!(waiting.await.ok(), Some(Some(())));
        assert!(began.elapsed() >= 700 * MS);
        assert_eq!(lost_time.within(300 * MS, sleep(800 * MS)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_looks_nothing_is_lost() {
        let lost_time = LostTime::new();
        let watch = lost_time.start();
        advance(2000 * MS).await;
        assert_eq!((watch.lost(&lost_time), watch.elapsed(&lost_time)), (Duration::ZERO, 2000 * MS));
        let (lost_time, shutdown) = looking().await;
        shutdown.cancel();
        sleep(MS).await;
        let watch = lost_time.start();
        advance(2000 * MS).await;
        assert_eq!(watch.lost(&lost_time), Duration::ZERO);
    }
}
