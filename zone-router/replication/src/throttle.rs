//! Limits how much a lane does at once, and how fast.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::timetable::Timetable;

/// The limits of one lane, as an operator sets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The number of concurrent copies; 0 counts as 1.
    pub copies: usize,
    /// The number of bytes of blobs that are copied at once. A larger blob is copied alone. Blobs below 1 MiB
    /// are not counted.
    pub in_flight: u64,
    /// The bytes per second that all copies of the zone together read.
    pub bandwidth: Timetable,
}

impl Default for Limits {
    fn default() -> Self {
        Self { copies: 8, in_flight: 128 << 20, bandwidth: Timetable::default() }
    }
}

/// The limits of all lanes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsByZone {
    /// For lanes without limits of their own.
    pub default: Limits,
    /// By the name of the target zone.
    pub zones: BTreeMap<String, Limits>,
}

impl LimitsByZone {
    /// The limits of one lane.
    #[must_use]
    pub fn of(&self, zone: &str) -> &Limits {
        self.zones.get(zone).unwrap_or(&self.default)
    }
}

/// Blobs below this size, in bytes, need no reservation, so that they can overtake a large blob that waits
/// for one.
pub(super) const SMALL_BLOB: u64 = 1 << 20;

/// Reservations are counted in units of this many bytes.
const UNIT: u64 = 64 << 10;

/// If a lane was idle, it may at once read as much as its bandwidth allows for this time.
const BURST: Duration = Duration::from_secs(1);

/// If the bandwidth is limited, bytes pass in pieces of at most this part of a second's bytes, so that
/// several copies make progress. No piece except the last is smaller than [`PIECE_MIN`] bytes.
const PIECES_PER_SECOND: u64 = 16;
const PIECE_MIN: u64 = 4 << 10;

/// Limits the copies of one lane. Copies in progress use a change of the limits from their next piece on.
#[derive(Debug)]
pub(super) struct Throttle {
    active: ArcSwap<ActiveLimits>,
    bucket: Mutex<Bucket>,
    /// Bytes that have passed since the start.
    moved: AtomicU64,
    /// Blobs that wait for a reservation.
    waiting: AtomicUsize,
    /// Notified when no blob waits any more.
    capacity_freed: Notify,
}

/// There is no capacity now for a blob that is larger than its job stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoCapacity;

/// Counts a blob as waiting for a reservation until this is dropped.
struct Waiting<'a> {
    throttle: &'a Throttle,
    /// Whether other blobs were waiting when this one began to wait.
    beside_others: bool,
}

impl<'a> Waiting<'a> {
    fn new(throttle: &'a Throttle) -> Self {
        let beside_others = throttle.waiting.fetch_add(1, Ordering::Relaxed) > 0;
        Self { throttle, beside_others }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.throttle.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.throttle.capacity_freed.notify_one();
        }
    }
}

#[derive(Debug)]
struct ActiveLimits {
    limits: Limits,
    /// One permit for each unit of `in_flight`.
    permits: Arc<Semaphore>,
    units: u32,
}

impl ActiveLimits {
    fn new(limits: Limits) -> Self {
        let units = u32::try_from(limits.in_flight / UNIT).unwrap_or(u32::MAX).max(1);
        Self { limits, permits: Arc::new(Semaphore::new(units as usize)), units }
    }
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            active: ArcSwap::from_pointee(ActiveLimits::new(limits)),
            bucket: Mutex::default(),
            moved: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            capacity_freed: Notify::new(),
        }
    }

    /// Replaces the limits. Copies in progress keep their reservations, which do not count in the new limits.
    pub(super) fn set(&self, limits: Limits) {
        if self.active.load().limits != limits {
            self.active.store(Arc::new(ActiveLimits::new(limits)));
        }
    }

    /// The most copies that may be in progress at once.
    pub(super) fn copies(&self) -> usize {
        self.active.load().limits.copies.max(1)
    }

    /// Waits for the reservation of a blob of `size` bytes, first come, first served. `None` for a small
    /// blob, which needs none.
    pub(super) async fn reserve(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        // A blob that may wait beside others is never refused.
        self.acquire(size, true).await.unwrap_or_default()
    }

    /// Like [`Throttle::reserve`], for the blob of a job that stated a size. If the blob is larger than its job stated,
    /// it may wait only if no other blob waits. Otherwise it would use up a copy that could do other work.
    ///
    /// # Errors
    /// The blob would have to wait while other blobs wait.
    pub(super) async fn reserve_as_stated(
        &self,
        stated: Option<u64>,
        size: u64,
    ) -> Result<Option<OwnedSemaphorePermit>, NoCapacity> {
        self.acquire(size, stated.is_some_and(|stated| stated >= size)).await
    }

    async fn acquire(
        &self,
        size: u64,
        may_wait_beside_others: bool,
    ) -> Result<Option<OwnedSemaphorePermit>, NoCapacity> {
        if size < SMALL_BLOB {
            return Ok(None);
        }
        let (permits, units) = {
            let active = self.active.load();
            let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).min(active.units);
            (Arc::clone(&active.permits), units)
        };
        if let Ok(reservation) = Arc::clone(&permits).try_acquire_many_owned(units) {
            return Ok(Some(reservation));
        }
        let waiting = Waiting::new(self);
        if waiting.beside_others && !may_wait_beside_others {
            return Err(NoCapacity);
        }
        // The semaphore is never closed.
        Ok(permits.acquire_many_owned(units).await.ok())
    }

    /// Whether a blob waits for a reservation, or the next blob would wait because `begun` bytes are being
    /// copied. Then only small blobs are started, because a blob that waits would use up one of the lane's
    /// copies.
    pub(super) fn is_full(&self, begun: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || begun >= self.active.load().limits.in_flight
    }

    /// Waits until no blob waits for a reservation any more.
    pub(super) async fn capacity_freed(&self) {
        self.capacity_freed.notified().await;
    }

    /// The least rate in bytes per second for one copy. `slowest` is the least rate without a bandwidth
    /// limit.
    pub(super) fn min_rate(&self, slowest: u64) -> u64 {
        let active = self.active.load();
        let share = |cap: u64| cap / (2 * active.limits.copies.max(1) as u64);
        active.limits.bandwidth.lowest().map_or(slowest, |cap| slowest.min(share(cap))).max(1)
    }

    /// The bytes that have passed since the start, including those of copies in progress.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Takes the next piece off `rest`, and returns it when it may pass.
    pub(super) async fn pass(&self, rest: &mut Bytes) -> Bytes {
        let piece = self.next(rest).await;
        self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        piece
    }

    async fn next(&self, rest: &mut Bytes) -> Bytes {
        let Some(rate) = self.active.load().limits.bandwidth.at(SystemTime::now()) else {
            return std::mem::take(rest);
        };
        let most = usize::try_from((rate / PIECES_PER_SECOND).max(PIECE_MIN)).unwrap_or(usize::MAX);
        let piece = rest.split_to(rest.len().min(most));
        let wait = self.bucket.lock().take(Instant::now(), piece.len() as u64, rate);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        piece
    }
}

/// A token bucket with debt. A caller that takes bytes waits until all bytes taken before are paid for.
#[derive(Debug, Default)]
struct Bucket {
    /// When all bytes taken so far are paid for.
    paid: Option<Instant>,
}

impl Bucket {
    /// Takes `bytes` at `rate` bytes per second. Returns how long to wait before they may pass.
    fn take(&mut self, now: Instant, bytes: u64, rate: u64) -> Duration {
        let full = now.checked_sub(BURST).unwrap_or(now);
        let from = self.paid.map_or(full, |paid| paid.max(full));
        self.paid = Some(from + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        from.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any span of time, no more bytes pass than the rate, a burst and one piece allow, and nobody
        /// waits longer than the earlier bytes need.
        #[test]
        fn never_faster_and_never_idle(
            rate in 1_000..1_000_000_u64,
            takes in prop::collection::vec((0..2_000_u64, 1..100_000_u64), 1..60),
        ) {
            let mut bucket = Bucket::default();
            let start = Instant::now() + Duration::from_secs(100);
            let (mut now, mut gone, mut total) = (start, Vec::new(), 0_u64);
            for (pause, bytes) in takes {
                now += Duration::from_millis(pause);
                let wait = bucket.take(now, bytes, rate);
                let needed = Duration::from_secs_f64(total as f64 / rate as f64);
                prop_assert!(wait <= needed, "{wait:?} for {total} bytes before it");
                total += bytes;
                gone.push((now + wait, bytes));
            }
            for (at, (first, _)) in gone.iter().enumerate() {
                let mut sum = 0;
                for (last, bytes) in &gone[at..] {
                    // The last piece may pass as soon as the earlier ones are paid for.
                    let span = (*last - *first + BURST).as_secs_f64();
                    prop_assert!(sum as f64 <= rate as f64 * span + 1.0, "{sum} bytes in {span} s");
                    sum += bytes;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_for_all_copies_together() {
        let throttle = Arc::new(Throttle::new(Limits {
            copies: 4,
            bandwidth: Timetable::always(Some(100 << 10)),
            ..Limits::default()
        }));
        let begun = Instant::now();
        let copies = (0..4).map(|_| {
            let throttle = Arc::clone(&throttle);
            tokio::spawn(async move {
                let mut rest = Bytes::from(vec![0; 256 << 10]);
                while !rest.is_empty() {
                    assert!(throttle.pass(&mut rest).await.len() <= 100 << 10);
                }
            })
        });
        futures_util::future::join_all(copies).await;
        let took = begun.elapsed().as_secs_f64();
        assert!(
            (9.0..10.3).contains(&took),
            "1 MiB at 100 KiB per second, the first of them at once: {took} s"
        );
        assert_eq!(throttle.min_rate(64 << 10), (100 << 10) / 8, "a copy's share, and half of it");
        // New limits apply at once.
        throttle.set(Limits::default());
        let mut rest = Bytes::from(vec![0; 10 << 20]);
        assert_eq!(throttle.pass(&mut rest).await.len(), 10 << 20);
        assert_eq!((begun.elapsed().as_secs_f64(), throttle.min_rate(7)), (took, 7));
    }

    #[tokio::test]
    async fn at_most_one_blob_larger_than_stated_waits() {
        use futures_util::FutureExt as _;
        let throttle = Throttle::new(Limits { in_flight: 10 << 20, ..Limits::default() });
        let held =
            throttle.reserve_as_stated(Some(1), 8 << 20).await.expect("capacity").expect("a reservation");
        let small = throttle.reserve_as_stated(None, 5).await;
        assert_eq!(small.map(|reservation| reservation.is_none()), Ok(true), "a small blob needs none");
        let mut first = Box::pin(throttle.reserve_as_stated(None, 8 << 20));
        assert!((&mut first).now_or_never().is_none() && throttle.is_full(0), "no other blob waits");
        assert_eq!(throttle.reserve_as_stated(Some(1), 8 << 20).await.map(drop), Err(NoCapacity));
        let mut honest = Box::pin(throttle.reserve_as_stated(Some(8 << 20), 8 << 20));
        assert!((&mut honest).now_or_never().is_none(), "its job stated its size");
        drop(held);
        assert!(first.await.expect("its turn").is_some());
        assert!(honest.await.expect("its turn").is_some());
        assert!(!throttle.is_full(0));
    }

    #[tokio::test]
    async fn large_blobs_wait_for_a_reservation_and_small_ones_do_not() {
        let throttle = Throttle::new(Limits { in_flight: 100 << 20, ..Limits::default() });
        let first = throttle.reserve(60 << 20).await;
        assert!(futures_util::FutureExt::now_or_never(throttle.reserve(60 << 20)).is_none(), "none is free");
        assert!(throttle.reserve((1 << 20) - 1).await.is_none(), "needs none");
        drop(first);
        assert!(!throttle.is_full(0), "the one that waited has gone");
        let alone = throttle.reserve(5 << 40).await.expect("larger than the limit: alone");
        let mut next = Box::pin(throttle.reserve(2 << 20));
        assert!(futures_util::FutureExt::now_or_never(&mut next).is_none() && throttle.is_full(0));
        drop(next);
        throttle.capacity_freed().await;
        assert!(futures_util::FutureExt::now_or_never(throttle.reserve(1 << 20)).is_none());
        // A higher limit applies at once.
        throttle.set(Limits { in_flight: 200 << 20, ..Limits::default() });
        assert!(throttle.reserve(150 << 20).await.is_some());
        drop(alone);
    }
}
