//! How much a lane does at once, and how fast.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::timetable::Timetable;

/// The limits of one lane, as an operator sets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Copies under way at once; at least 1 is used.
    pub copies: usize,
    /// Bytes of blobs being copied at once. One that is larger goes alone; those of less than
    /// 1 MiB are not counted.
    pub in_flight: u64,
    /// Bytes a second that are read for the zone, all its copies together.
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
    /// Of the lanes that have none of their own.
    pub default: Limits,
    /// By the name of the target zone.
    pub zones: BTreeMap<String, Limits>,
}

impl LimitsByZone {
    /// Those of one lane.
    #[must_use]
    pub fn of(&self, zone: &str) -> &Limits {
        self.zones.get(zone).unwrap_or(&self.default)
    }
}

/// Blobs below this size, in bytes, need no room: so they pass one that waits for much of it.
pub(super) const UNCOUNTED: u64 = 1 << 20;

/// Bytes that are counted as one.
const UNIT: u64 = 64 << 10;

/// A lane that has read nothing for a while may read as much at once as for this time.
const BURST: Duration = Duration::from_secs(1);

/// Where there is a cap, no piece takes a larger part of a second's bytes, so that several copies
/// move at a time; nor is any smaller than [`CRUMB`], save the last.
const PIECES: u64 = 16;
const CRUMB: u64 = 4 << 10;

/// The pace of one lane. Copies under way see a change at their next piece.
#[derive(Debug)]
pub(super) struct Pace {
    now: ArcSwap<Set>,
    bucket: Mutex<Bucket>,
    /// Bytes that have passed since the start.
    moved: AtomicU64,
    /// Blobs that wait for room.
    waiting: AtomicUsize,
    /// Told when none waits any more.
    roomy: Notify,
}

/// There is no room now for a blob that is larger than its job said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

/// A blob waits for room until this is dropped.
struct Waiting<'a> {
    pace: &'a Pace,
    /// Whether others did when it began.
    beside_others: bool,
}

impl<'a> Waiting<'a> {
    fn new(pace: &'a Pace) -> Self {
        let beside_others = pace.waiting.fetch_add(1, Ordering::Relaxed) > 0;
        Self { pace, beside_others }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.pace.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.pace.roomy.notify_one();
        }
    }
}

#[derive(Debug)]
struct Set {
    limits: Limits,
    room: Arc<Semaphore>,
    units: u32,
}

impl Set {
    fn new(limits: Limits) -> Self {
        let units = u32::try_from(limits.in_flight / UNIT).unwrap_or(u32::MAX).max(1);
        Self { limits, room: Arc::new(Semaphore::new(units as usize)), units }
    }
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            now: ArcSwap::from_pointee(Set::new(limits)),
            bucket: Mutex::default(),
            moved: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            roomy: Notify::new(),
        }
    }

    /// Other limits from now on. What is under way keeps its room beside the new one.
    pub(super) fn set(&self, limits: Limits) {
        if self.now.load().limits != limits {
            self.now.store(Arc::new(Set::new(limits)));
        }
    }

    pub(super) fn copies(&self) -> usize {
        self.now.load().limits.copies.max(1)
    }

    /// Waits for the room of a blob of `size` bytes, after those who waited before.
    pub(super) async fn room(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        if size < UNCOUNTED {
            return None;
        }
        let (room, units) = self.asked(size);
        if let Ok(room) = Arc::clone(&room).try_acquire_many_owned(units) {
            return Some(room);
        }
        let _waiting = Waiting::new(self);
        // Never closed.
        room.acquire_many_owned(units).await.ok()
    }

    /// [`Pace::room`] for the blob of a job that `said` how large it is. One that is larger was begun as if it
    /// needed less, and may wait for room only if it is the only one: places of copies are not for waiting.
    ///
    /// # Errors
    /// It would have to wait beside others.
    pub(super) async fn room_as_said(
        &self,
        said: Option<u64>,
        size: u64,
    ) -> Result<Option<OwnedSemaphorePermit>, NoRoom> {
        let as_said = said.is_some_and(|said| said >= size);
        if as_said || size < UNCOUNTED {
            return Ok(self.room(size).await);
        }
        let (room, units) = self.asked(size);
        if let Ok(room) = Arc::clone(&room).try_acquire_many_owned(units) {
            return Ok(Some(room));
        }
        let waiting = Waiting::new(self);
        if waiting.beside_others {
            return Err(NoRoom);
        }
        // Never closed.
        Ok(room.acquire_many_owned(units).await.ok())
    }

    /// The room that there is now, and how much of it a blob of `size` bytes takes.
    fn asked(&self, size: u64) -> (Arc<Semaphore>, u32) {
        let now = self.now.load();
        (Arc::clone(&now.room), u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).min(now.units))
    }

    /// Whether a blob waits for room, or will with `begun` bytes of blobs that need it: then only those
    /// that need none are begun, lest they wait in the places of copies.
    pub(super) fn is_full(&self, begun: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || begun >= self.now.load().limits.in_flight
    }

    /// Waits until no blob waits for room any more.
    pub(super) async fn roomy(&self) {
        self.roomy.notified().await;
    }

    /// The fewest bytes a second that one copy may go on with, where `slowest` is that without a cap.
    pub(super) fn slowest(&self, slowest: u64) -> u64 {
        let now = self.now.load();
        let share = |cap: u64| cap / (2 * now.limits.copies.max(1) as u64);
        now.limits.bandwidth.lowest().map_or(slowest, |cap| slowest.min(share(cap))).max(1)
    }

    /// Bytes that have passed since the start, of copies under way too.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The next piece of `rest`, when it may go on.
    pub(super) async fn pass(&self, rest: &mut Bytes) -> Bytes {
        let piece = self.next(rest).await;
        self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        piece
    }

    async fn next(&self, rest: &mut Bytes) -> Bytes {
        let Some(rate) = self.now.load().limits.bandwidth.at(SystemTime::now()) else {
            return std::mem::take(rest);
        };
        let most = usize::try_from((rate / PIECES).max(CRUMB)).unwrap_or(usize::MAX);
        let piece = rest.split_to(rest.len().min(most));
        let wait = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(
            Instant::now(),
            piece.len() as u64,
            rate,
        );
        if !wait.is_zero() {
            sleep(wait).await;
        }
        piece
    }
}

/// A token bucket that lends: who takes pays by waiting for what was taken before.
#[derive(Debug, Default)]
struct Bucket {
    /// When all that was taken is paid for.
    paid: Option<Instant>,
}

impl Bucket {
    /// Takes `bytes` at `rate` bytes a second; how long to wait before they go.
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
        /// In no span of time more goes than the rate allows, a burst and one piece; and a taker
        /// who has to wait waits no longer than the bytes before it need.
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
                    // The last may go as soon as those before it are paid for.
                    let span = (*last - *first + BURST).as_secs_f64();
                    prop_assert!(sum as f64 <= rate as f64 * span + 1.0, "{sum} bytes in {span} s");
                    sum += bytes;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_holds_for_all_copies_together() {
        let pace = Arc::new(Pace::new(Limits {
            copies: 4,
            bandwidth: Timetable::always(Some(100 << 10)),
            ..Limits::default()
        }));
        let begun = Instant::now();
        let copies = (0..4).map(|_| {
            let pace = Arc::clone(&pace);
            tokio::spawn(async move {
                let mut rest = Bytes::from(vec![0; 256 << 10]);
                while !rest.is_empty() {
                    assert!(pace.pass(&mut rest).await.len() <= 100 << 10);
                }
            })
        });
        futures_util::future::join_all(copies).await;
        let took = begun.elapsed().as_secs_f64();
        assert!(
            (9.0..10.3).contains(&took),
            "1 MiB at 100 KiB a second, the first of them at once: {took} s"
        );
        assert_eq!(pace.slowest(64 << 10), (100 << 10) / 8, "a copy's share, and half of it");
        // Another word holds at once.
        pace.set(Limits::default());
        let mut rest = Bytes::from(vec![0; 10 << 20]);
        assert_eq!(pace.pass(&mut rest).await.len(), 10 << 20);
        assert_eq!((begun.elapsed().as_secs_f64(), pace.slowest(7)), (took, 7));
    }

    #[tokio::test]
    async fn only_one_that_is_larger_than_was_said_waits() {
        use futures_util::FutureExt as _;
        let pace = Pace::new(Limits { in_flight: 10 << 20, ..Limits::default() });
        let held =
            pace.room_as_said(Some(1), 8 << 20).await.expect("there is room").expect("and it takes some");
        assert_eq!(pace.room_as_said(None, 5).await.map(|room| room.is_none()), Ok(true), "it needs none");
        let mut first = Box::pin(pace.room_as_said(None, 8 << 20));
        assert!((&mut first).now_or_never().is_none() && pace.is_full(0), "nobody else waits");
        assert_eq!(pace.room_as_said(Some(1), 8 << 20).await.map(drop), Err(NoRoom));
        let mut honest = Box::pin(pace.room_as_said(Some(8 << 20), 8 << 20));
        assert!((&mut honest).now_or_never().is_none(), "it was begun as what it is");
        drop(held);
        assert!(first.await.expect("its turn").is_some());
        assert!(honest.await.expect("its turn").is_some());
        assert!(!pace.is_full(0));
    }

    #[tokio::test]
    async fn large_blobs_wait_for_room_and_small_ones_do_not() {
        let pace = Pace::new(Limits { in_flight: 100 << 20, ..Limits::default() });
        let first = pace.room(60 << 20).await;
        assert!(futures_util::FutureExt::now_or_never(pace.room(60 << 20)).is_none(), "no room");
        assert!(pace.room((1 << 20) - 1).await.is_none(), "needs none");
        drop(first);
        assert!(!pace.is_full(0), "who waited has gone");
        let alone = pace.room(5 << 40).await.expect("larger than all the room: alone");
        let mut next = Box::pin(pace.room(2 << 20));
        assert!(futures_util::FutureExt::now_or_never(&mut next).is_none() && pace.is_full(0));
        drop(next);
        pace.roomy().await;
        assert!(futures_util::FutureExt::now_or_never(pace.room(1 << 20)).is_none());
        // More room is there at once.
        pace.set(Limits { in_flight: 200 << 20, ..Limits::default() });
        assert!(pace.room(150 << 20).await.is_some());
        drop(alone);
    }
}
