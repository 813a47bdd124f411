//! Tests lanes over a real journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backends::{Backoff, Kind};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, PerZone, Zone};

use super::super::copy::Copier;
use super::super::throttle::Throttle;
use super::super::{Authority, Bounds, FanOut, LaneStatus, Limits, LimitsByZone, Setup, Verify};
use super::authority::Registry;
use super::{Mode, Place, Scripted, blob};

/// Much longer than any wait in these tests.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn bounds() -> Bounds {
    let backoff = |base, max| Backoff { base: Duration::from_millis(base), max: Duration::from_millis(max) };
    let (retry, nowhere, pause) = (backoff(5, 50), backoff(5, 50), backoff(5, 20));
    Bounds { retry, nowhere, nowhere_tries: u32::MAX, pause, ..Bounds::default() }
}

cases!(
    every_blob_reaches_every_target,
    a_dead_target_delays_only_itself,
    an_outage_costs_one_try_a_pause_and_ends_with_the_outage,
    a_blob_that_no_zone_has_waits_with_its_reason,
    a_blob_that_no_zone_has_waits_longer_than_a_failed_job,
    a_restart_continues_the_jobs,
    a_job_added_again_during_its_copy_is_written_once,
    copies_at_once_are_bounded,
    a_stop_does_not_wait_for_a_copy,
    a_panic_costs_a_retry,
    jobs_of_an_unusable_zone_wait_until_it_is_usable,
    the_object_of_a_write_with_unknown_outcome_is_read,
    large_blobs_with_small_stated_sizes_do_not_block_others,
);

/// Zones a, b and c, and the place where the journal is stored.
pub(crate) struct World {
    pub(crate) place: Arc<dyn Place>,
    pub(crate) a: Arc<Scripted>,
    pub(crate) b: Arc<Scripted>,
    pub(crate) c: Arc<Scripted>,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    pub(crate) fn new(place: Arc<dyn Place>) -> Self {
        Self {
            place,
            a: Scripted::new(),
            b: Scripted::new(),
            c: Scripted::new(),
            shutdown: CancellationToken::new(),
        }
    }

    pub(crate) fn zones(&self) -> Vec<Zone> {
        vec![self.a.zone("zone-a"), self.b.zone("zone-b"), self.c.zone("zone-c")]
    }

    pub(crate) async fn start(&self) -> FanOut {
        self.start_as(|setup| setup).await
    }

    async fn start_with(&self, bounds: Bounds) -> FanOut {
        self.start_as(|setup| Setup { bounds, ..setup }).await
    }

    pub(crate) async fn start_as(&self, change: impl FnOnce(Setup) -> Setup) -> FanOut {
        let setup = Setup { bounds: bounds(), ..Setup::new(self.zones(), self.place.open().await) };
        FanOut::start(change(setup), self.shutdown.clone())
    }

    /// A copier of single blobs into a zone.
    pub(crate) async fn copier(&self, target: &str, registry: Option<Arc<Registry>>) -> Copier {
        let zones: Arc<PerZone<Zone>> = Arc::new(self.zones().into());
        Copier {
            target: zones.iter().find(|zone| &*zone.name == target).unwrap().clone(),
            journal: self.place.open().await,
            zones,
            bounds: Bounds { nowhere_tries: 3, ..bounds() },
            verify: Verify::Size,
            throttle: Arc::new(Throttle::new(Limits::default())),
            router: None,
            local: None,
            authority: registry.map(|registry| registry as Arc<dyn Authority>),
            server_side: Arc::default(),
            verified: Arc::default(),
        }
    }

    /// Puts blobs into zone a, as pushes do.
    pub(crate) fn pushed(&self, count: usize) -> Vec<(Blob, Option<u64>)> {
        let texts = (0..count).map(|n| format!("blob {n}"));
        let put = |text: String| {
            let blob = blob(text.as_bytes());
            self.a.holds(&blob, text.as_bytes());
            (blob, Some(text.len() as u64))
        };
        texts.map(put).collect()
    }
}

pub(crate) fn targets(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

pub(crate) async fn lane(fan_out: &FanOut, zone: &str) -> LaneStatus {
    fan_out.status().await.unwrap().into_iter().find(|lane| &*lane.zone == zone).unwrap()
}

/// Waits until the lane's status satisfies `so`.
pub(crate) async fn until(fan_out: &FanOut, zone: &str, so: impl Fn(&LaneStatus) -> bool) -> LaneStatus {
    let wait = async {
        loop {
            let status = lane(fan_out, zone).await;
            if so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.expect("in time")
}

pub(crate) async fn idle(fan_out: &FanOut) {
    tokio::time::timeout(TIMEOUT, fan_out.idle()).await.expect("in time").unwrap();
}

async fn every_blob_reaches_every_target(place: Arc<dyn Place>) {
    let world = World::new(place);
    let fan_out = world.start().await;
    let blobs = world.pushed(200);
    fan_out.enqueue("org/repo", &blobs, &targets(&["zone-a", "zone-b", "zone-c"])).await.unwrap();
    idle(&fan_out).await;
    let expected = world.a.contents().await;
    assert_eq!(world.b.contents().await, expected);
    assert_eq!(world.c.contents().await, expected);
    let home = lane(&fan_out, "zone-a").await;
    assert_eq!((home.already_there, home.copied), (200, 0));
    let other = lane(&fan_out, "zone-c").await;
    assert_eq!((other.already_there, other.copied, other.failures), (0, 200, 0));
    assert_eq!(other.copied_bytes, expected.values().map(|bytes| bytes.len() as u64).sum::<u64>());
}

async fn a_dead_target_delays_only_itself(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Fails(Kind::Unavailable));
    let fan_out = world.start().await;
    let blobs = world.pushed(30);
    fan_out.enqueue("org/repo", &blobs, &targets(&["zone-b", "zone-c"])).await.unwrap();
    until(&fan_out, "zone-c", |lane| lane.waiting == 0 && lane.copied == 30).await;
    let dead = until(&fan_out, "zone-b", |lane| lane.attempts >= 5).await;
    assert_eq!((dead.waiting, dead.copied), (30, 0));
    assert_eq!(dead.last_error.as_deref(), Some("target; zone-b: scripted: unavailable (503)"));
    assert!(dead.oldest.is_some() && dead.bytes > 0);

    world.b.set(Mode::Healthy);
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await, world.a.contents().await);
    assert_eq!(lane(&fan_out, "zone-b").await.last_error, None);
}

async fn an_outage_costs_one_try_a_pause_and_ends_with_the_outage(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Fails(Kind::Timeout));
    // The jobs' own backoff would outlast this test. They become due only because the lane detects the
    // recovery.
    let hour = Duration::from_secs(3600);
    let fan_out = world.start_with(Bounds { retry: Backoff { base: hour, max: hour }, ..bounds() }).await;
    fan_out.enqueue("org/repo", &world.pushed(100), &targets(&["zone-b"])).await.unwrap();
    let dead = until(&fan_out, "zone-b", |lane| lane.attempts >= 10).await;
    assert!(dead.attempts < 100, "{dead:?}");
    world.b.set(Mode::Healthy);
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.len(), 100);
}

async fn a_blob_that_no_zone_has_waits_with_its_reason(place: Arc<dyn Place>) {
    let world = World::new(place);
    let fan_out = world.start().await;
    let missing = blob(b"late");
    fan_out.enqueue("org/repo", &[(missing.clone(), None)], &targets(&["zone-b"])).await.unwrap();
    let waiting = until(&fan_out, "zone-b", |lane| lane.attempts >= 3).await;
    assert_eq!((waiting.waiting, waiting.failing), (1, 1));
    assert_eq!(waiting.last_error.as_deref(), Some("no zone has it"));
    // Other jobs do not wait for it.
    fan_out.enqueue("org/repo", &world.pushed(10), &targets(&["zone-b"])).await.unwrap();
    until(&fan_out, "zone-b", |lane| lane.copied == 10).await;
    world.c.holds(&missing, b"late");
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.len(), 11);
}

async fn a_blob_that_no_zone_has_waits_longer_than_a_failed_job(place: Arc<dyn Place>) {
    let world = World::new(place);
    let hour = Duration::from_secs(3600);
    let fan_out = world.start_with(Bounds { nowhere: Backoff { base: hour, max: hour }, ..bounds() }).await;
    fan_out.enqueue("org/repo", &[(blob(b"deleted"), None)], &targets(&["zone-b", "zone-c"])).await.unwrap();
    until(&fan_out, "zone-b", |lane| lane.attempts == 1).await;
    until(&fan_out, "zone-c", |lane| lane.attempts == 1).await;
    // Meanwhile, a job whose source fails is tried again and again.
    let pushed = world.pushed(1);
    world.a.set(Mode::Fails(Kind::Timeout));
    fan_out.enqueue("org/repo", &pushed, &targets(&["zone-b"])).await.unwrap();
    let waiting = until(&fan_out, "zone-b", |lane| lane.attempts >= 4).await;
    assert_eq!((waiting.waiting, lane(&fan_out, "zone-c").await.attempts), (2, 1));
}

async fn a_restart_continues_the_jobs(place: Arc<dyn Place>) {
    let mut world = World::new(place);
    world.b.set(Mode::Fails(Kind::Denied));
    let first = world.start().await;
    let blobs = world.pushed(20);
    first.enqueue("org/repo", &blobs, &targets(&["zone-b", "zone-gone"])).await.unwrap();
    let before = until(&first, "zone-b", |lane| lane.attempts >= 2).await;
    world.shutdown.cancel();
    tokio::time::timeout(TIMEOUT, first.stopped()).await.expect("stops promptly");
    drop(first);

    world.shutdown = CancellationToken::new();
    let second = world.start().await;
    let after = lane(&second, "zone-b").await;
    assert!(after.waiting == 20 && after.attempts >= before.attempts);
    world.b.set(Mode::Healthy);
    idle(&second).await;
    assert_eq!(world.b.contents().await, world.a.contents().await);
    let gone = lane(&second, "zone-gone").await;
    assert_eq!((gone.configured, gone.waiting), (false, 20));
}

async fn a_job_added_again_during_its_copy_is_written_once(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Held);
    let fan_out = world.start().await;
    let blobs = world.pushed(1);
    let zone_b = targets(&["zone-b"]);
    fan_out.enqueue("org/repo", &blobs, &zone_b).await.unwrap();
    world.b.has_begun(1).await;
    for _ in 0..10 {
        fan_out.enqueue("org/other", &blobs, &zone_b).await.unwrap();
    }
    assert_eq!(lane(&fan_out, "zone-b").await.active, 1, "not begun twice at once");
    world.b.gate.add_permits(10);
    idle(&fan_out).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 1);
    assert_eq!(world.b.heads.load(Ordering::SeqCst), 2, "checked once more, as it was added again");
    assert_eq!(world.b.contents().await, world.a.contents().await);
}

async fn copies_at_once_are_bounded(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Held);
    let default = Limits { copies: 3, ..Limits::default() };
    let limits = LimitsByZone { default, ..LimitsByZone::default() };
    let fan_out = world.start_as(|setup| Setup { limits, ..setup }).await;
    fan_out.enqueue("org/repo", &world.pushed(20), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 3);
    world.b.gate.add_permits(20);
    idle(&fan_out).await;
}

async fn a_stop_does_not_wait_for_a_copy(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Held);
    let fan_out = world.start().await;
    fan_out.enqueue("org/repo", &world.pushed(3), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(3).await;
    world.shutdown.cancel();
    tokio::time::timeout(TIMEOUT, fan_out.stopped()).await.expect("stops promptly");
    assert_eq!(lane(&fan_out, "zone-b").await.waiting, 3);
    assert!(world.b.contents().await.is_empty());
}

async fn a_panic_costs_a_retry(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Panics);
    let fan_out = world.start().await;
    fan_out.enqueue("org/repo", &world.pushed(5), &targets(&["zone-b"])).await.unwrap();
    let status = until(&fan_out, "zone-b", |lane| lane.attempts >= 6).await;
    assert_eq!(status.last_error.as_deref(), Some("the copy panicked"));
    world.b.set(Mode::Healthy);
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.len(), 5);
}

async fn jobs_of_an_unusable_zone_wait_until_it_is_usable(place: Arc<dyn Place>) {
    let world = World::new(place);
    let blobs = world.pushed(3);
    let zones =
        vec![world.a.zone("zone-a"), Zone::unusable("zone-b", "no such driver"), world.c.zone("zone-c")];
    let journal = world.place.open().await;
    let setup = Setup { bounds: bounds(), ..Setup::new(zones, journal) };
    let fan_out = FanOut::start(setup, world.shutdown.child_token());
    fan_out.enqueue("org/repo", &blobs, &targets(&["zone-b", "zone-c"])).await.unwrap();
    idle(&fan_out).await;
    let status = fan_out.status().await.unwrap();
    let unusable: Vec<_> = status.iter().map(|lane| lane.unusable.as_deref()).collect();
    assert_eq!(unusable, [None, Some("no such driver"), None]);
    let waiting = &status[1];
    assert_eq!((waiting.waiting, waiting.attempts, waiting.failures, waiting.configured), (3, 0, 0, true));
    drop(fan_out);
    world.shutdown.cancel();
    let usable = World { shutdown: CancellationToken::new(), ..world };
    let fan_out = usable.start().await;
    idle(&fan_out).await;
    assert_eq!(usable.b.contents().await.len(), 3);
}

/// A write that failed may have left an object that only looks like the blob. A restart does not forget this.
async fn the_object_of_a_write_with_unknown_outcome_is_read(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Spoils);
    let hour = Duration::from_secs(3600);
    let wait = Backoff { base: hour, max: hour };
    let fan_out = world.start_with(Bounds { retry: wait, pause: wait, ..bounds() }).await;
    let pushed = world.pushed(1);
    fan_out.enqueue("org/repo", &pushed, &targets(&["zone-b"])).await.unwrap();
    until(&fan_out, "zone-b", |lane| lane.failing == 1).await;
    assert_ne!(world.b.contents().await, world.a.contents().await);
    world.shutdown.cancel();
    fan_out.stopped().await;
    let again = World { shutdown: CancellationToken::new(), ..world };
    let fan_out = again.start().await;
    fan_out.enqueue("org/repo", &pushed, &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(again.b.contents().await, again.a.contents().await);
}

/// If a client states small sizes for large blobs, the copies of other clients go on.
async fn large_blobs_with_small_stated_sizes_do_not_block_others(place: Arc<dyn Place>) {
    let world = World::new(place);
    world.b.set(Mode::Held);
    let limits = Limits { copies: 4, in_flight: 4 << 20, ..Limits::default() };
    let limits = LimitsByZone { default: limits, ..LimitsByZone::default() };
    let fan_out = world.start_as(|setup| Setup { limits, ..setup }).await;
    let lies = [Some(1), Some(0), None].into_iter().cycle().take(12).enumerate().map(|(number, said)| {
        let bytes = vec![number as u8; 2 << 20];
        let large = blob(&bytes);
        world.a.holds(&large, &bytes);
        (large, said)
    });
    fan_out.enqueue("org/liar", &lies.collect::<Vec<_>>(), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(2).await;
    fan_out.enqueue("org/repo", &world.pushed(1), &targets(&["zone-b"])).await.unwrap();
    // Two jobs use up the capacity, and this one needs none.
    tokio::time::timeout(TIMEOUT, world.b.has_begun(3)).await.expect("it does not wait for capacity");
    world.b.gate.add_permits(100);
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await, world.a.contents().await);
}
