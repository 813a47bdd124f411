//! What the fan-out makes of the registry's word.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Kind, Source};
use bytes::Bytes;
use zone_router::Zone;

use super::super::{Authority, Bounds, FanOut, Job, Outcome, Placed, Setup, Verify, Wanted};
use super::blob;
use super::lanes::{World, bounds, idle, lane, targets, until};
use super::over_both;
use super::place::Place;
use super::scripted::Mode;

over_both!(
    what_the_registry_has_no_more_is_withdrawn,
    what_nobody_can_be_asked_about_is_parked,
    what_only_the_registry_has_comes_from_it,
    a_copy_that_the_registry_drops_meanwhile_is_no_failure,
    a_registry_that_fails_costs_retries_and_no_pause,
);

/// A registry that does as it is told.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) wanted: Mutex<Wanted>,
    pub(super) gives: Mutex<Option<Source>>,
    pub(super) placing: Mutex<Result<Placed, String>>,
    pub(super) must_prove: AtomicBool,
    /// Digest and zone, as they came.
    pub(super) placed: Mutex<Vec<(Digest, Arc<str>)>>,
}

impl Registry {
    pub(super) fn new(wanted: Wanted) -> Arc<Self> {
        Arc::new(Self {
            wanted: Mutex::new(wanted),
            gives: Mutex::default(),
            placing: Mutex::new(Ok(Placed::Kept)),
            must_prove: AtomicBool::new(false),
            placed: Mutex::default(),
        })
    }
}

#[async_trait]
impl Authority for Registry {
    async fn wanted(&self, _job: &Job) -> Wanted {
        self.wanted.lock().unwrap().clone()
    }

    async fn fetch(&self, _job: &Job) -> Result<Option<Source>, String> {
        Ok(self.gives.lock().unwrap().clone())
    }

    async fn must_prove(&self, _job: &Job, _target: &Zone) -> Result<bool, String> {
        Ok(self.must_prove.load(Ordering::SeqCst))
    }

    async fn placed(&self, job: &Job, target: &Zone) -> Result<Placed, String> {
        self.placed.lock().unwrap().push((job.blob.digest, Arc::clone(&target.name)));
        self.placing.lock().unwrap().clone()
    }
}

async fn start(world: &World, registry: Option<&Arc<Registry>>) -> FanOut {
    let authority = registry.map(|registry| Arc::clone(registry) as Arc<dyn Authority>);
    let bounds = Bounds { nowhere_tries: 3, ..bounds() };
    world.start_as(|setup| Setup { authority, bounds, ..setup }).await
}

async fn what_the_registry_has_no_more_is_withdrawn(place: Place) {
    let world = World::new(place);
    let fan_out = start(&world, Some(&Registry::new(Wanted::No))).await;
    fan_out.enqueue("org/repo", &[(blob(b"deleted"), Some(7))], &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.withdrawn, done.failures, done.copied, done.parked), (1, 2, 0, 0));
    assert!(world.b.contents().await.is_empty());
}

async fn what_nobody_can_be_asked_about_is_parked(place: Place) {
    let world = World::new(place);
    let lost = [(blob(b"lost"), Some(4))];
    let fan_out = start(&world, None).await;
    fan_out.enqueue("org/repo", &lost, &targets(&["zone-b"])).await.unwrap();
    let parked = until(&fan_out, "zone-b", |lane| lane.parked == 1).await;
    assert_eq!((parked.waiting, parked.parked_bytes, parked.oldest), (0, 4, None));
    // Found again, and asked for again.
    world.c.holds(&lost[0].0, b"lost");
    fan_out.enqueue("org/repo", &lost, &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.len(), 1);

    let unsure = Registry::new(Wanted::Unknown("401: the robot's password is wrong".into()));
    let unknown = Registry::new(Wanted::Yes);
    for (registry, expected) in [
        (None, "set registry.account"),
        (Some(unsure), "does not say whether it wants it: 401: the robot's password is wrong"),
        (Some(unknown), "gives it neither"),
    ] {
        let means = world.means("zone-b", registry);
        let end = means.perform(&Job { attempts: 99, ..super::job(blob(b"gone"), "zone-b", None) }).await;
        assert!(format!("{end:?}").starts_with("Parked") && format!("{end:?}").contains(expected), "{end:?}");
    }
}

async fn what_only_the_registry_has_comes_from_it(place: Place) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    let bytes = Bytes::from_static(b"under a key of long ago");
    *registry.gives.lock().unwrap() = Some(Source::bytes(bytes.clone()));
    let fan_out = start(&world, Some(&registry)).await;
    let legacy = blob(&bytes);
    fan_out.enqueue("org/repo", &[(legacy.clone(), None)], &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.into_values().collect::<Vec<_>>(), [bytes]);
    assert_eq!(*registry.placed.lock().unwrap(), [(legacy.digest, "zone-b".into())]);
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.copied, done.failures, done.parked), (1, 2, 0));

    // What is not the blob is not written.
    let wrong = Registry::new(Wanted::Yes);
    let other = blob(b"another");
    *wrong.gives.lock().unwrap() =
        Some(Source::new(7, other.digest, Arc::new(Bytes::from_static(b"anothEr"))));
    let job = Job { attempts: 9, ..super::job(other, "zone-b", None) };
    let end = world.means("zone-b", Some(wrong)).perform(&job).await;
    assert!(format!("{end:?}").contains("other bytes than its digest says"), "{end:?}");
    assert_eq!(world.b.contents().await.len(), 1);
}

async fn a_copy_that_the_registry_drops_meanwhile_is_no_failure(place: Place) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    *registry.placing.lock().unwrap() = Ok(Placed::Withdrawn);
    let fan_out = start(&world, Some(&registry)).await;
    fan_out.enqueue("org/repo", &world.pushed(3), &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.withdrawn, done.copied, done.failures), (3, 0, 0));
    assert_eq!(world.b.contents().await.len(), 3, "the copies stay");
}

async fn a_registry_that_fails_costs_retries_and_no_pause(place: Place) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    *registry.placing.lock().unwrap() = Err("its database is away".into());
    let hour = Duration::from_secs(3600);
    let authority = Some(Arc::clone(&registry) as Arc<dyn Authority>);
    let pause = backends::Backoff { base: hour, max: hour };
    let fan_out =
        world.start_as(|setup| Setup { authority, bounds: Bounds { pause, ..bounds() }, ..setup }).await;
    fan_out.enqueue("org/repo", &world.pushed(10), &targets(&["zone-b"])).await.unwrap();
    // A lane that paused would have tried one.
    let waiting = until(&fan_out, "zone-b", |lane| lane.failing == 10).await;
    assert_eq!(waiting.last_error.as_deref(), Some("registry: its database is away"));
    assert_eq!(world.b.contents().await.len(), 10, "the copies are made");
    *registry.placing.lock().unwrap() = Ok(Placed::Kept);
    idle(&fan_out).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 10, "copied once");
}

/// What the gateway did not write is read before others are told of it, and what is wrong replaced.
#[tokio::test]
async fn what_was_there_is_proven_before_the_registry_is_told() {
    let world = World::new(Place::file());
    let registry = Registry::new(Wanted::Yes);
    let (right, wrong) = (blob(b"right"), blob(b"wrong"));
    for held in [&world.a, &world.b] {
        held.holds(&right, b"right");
        held.holds(&wrong, b"wrong");
    }
    world.b.holds(&wrong, b"wrOng");
    let means = world.means("zone-b", Some(Arc::clone(&registry)));
    let of = |blob: &zone_router::Blob| super::job(blob.clone(), "zone-b", Some(5));
    assert_eq!(means.copy(&of(&wrong)).await.unwrap(), Outcome::AlreadyThere, "its size is right");
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 0);
    registry.must_prove.store(true, Ordering::SeqCst);
    assert_eq!(means.copy(&of(&right)).await.unwrap(), Outcome::AlreadyThere);
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: 5, replaced: true };
    assert_eq!(means.copy(&of(&wrong)).await.unwrap(), replaced);
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 2);
    assert_eq!(world.b.contents().await, world.a.contents().await);
    assert_eq!(registry.placed.lock().unwrap().len(), 3);

    // So it is where every object is to be read.
    world.b.holds(&wrong, b"wroNg");
    let mut deep = world.means("zone-b", None);
    deep.verify = Verify::Deep;
    assert_eq!(deep.copy(&of(&wrong)).await.unwrap(), replaced);
    world.a.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(deep.copy(&of(&wrong)).await.unwrap(), Outcome::AlreadyThere);
    world.b.holds(&wrong, b"wroNg");
    assert!(deep.copy(&of(&wrong)).await.is_err(), "what is wrong does not count where nobody mends it");
}

/// While the registry cannot be told, what waits for that is not read at every try.
#[tokio::test]
async fn what_waits_for_the_registry_is_read_once() {
    let world = World::new(Place::file());
    let registry = Registry::new(Wanted::Yes);
    let right = blob(b"right");
    world.a.holds(&right, b"right");
    world.b.holds(&right, b"right");
    registry.must_prove.store(true, Ordering::SeqCst);
    *registry.placing.lock().unwrap() = Err("no lock".into());
    let means = world.means("zone-b", Some(Arc::clone(&registry)));
    for _ in 0..3 {
        let error = means.copy(&super::job(right.clone(), "zone-b", Some(5))).await.unwrap_err();
        assert_eq!(error.fault, super::super::Fault::Registry);
    }
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 1);
}
