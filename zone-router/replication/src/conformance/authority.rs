//! Tests how lanes use the registry's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Source};
use bytes::Bytes;
use parking_lot::Mutex;
use zone_router::Zone;

use super::super::{Authority, AuthorityError, Bounds, FanOut, Job, Placed, Setup, Wanted};
use super::lanes::{World, bounds, idle, lane, targets, until};
use super::{Mode, Place, blob, job};

cases!(
    a_blob_that_the_registry_no_longer_has_is_withdrawn,
    a_job_is_parked_if_the_registry_cannot_be_asked,
    a_blob_that_only_the_registry_has_is_read_from_it,
    a_copy_of_a_blob_that_the_registry_drops_is_not_a_failure,
    a_registry_that_fails_costs_retries_and_no_pause,
);

/// A registry that answers on command.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) wanted: Mutex<Wanted>,
    pub(crate) gives: Mutex<Option<Source>>,
    pub(crate) placing: Mutex<Result<Placed, AuthorityError>>,
    pub(crate) must_prove: AtomicBool,
    /// The digest and the zone of each call, in order.
    pub(crate) placed: Mutex<Vec<(Digest, Arc<str>)>>,
}

impl Registry {
    pub(crate) fn new(wanted: Wanted) -> Arc<Self> {
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
        self.wanted.lock().clone()
    }

    async fn fetch(&self, _job: &Job) -> Result<Option<Source>, AuthorityError> {
        Ok(self.gives.lock().clone())
    }

    async fn must_prove(&self, _job: &Job, _target: &Zone) -> Result<bool, AuthorityError> {
        Ok(self.must_prove.load(Ordering::SeqCst))
    }

    async fn placed(&self, job: &Job, target: &Zone) -> Result<Placed, AuthorityError> {
        self.placed.lock().push((job.blob.digest, Arc::clone(&target.name)));
        self.placing.lock().clone()
    }
}

async fn start(world: &World, registry: Option<&Arc<Registry>>) -> FanOut {
    let authority = registry.map(|registry| Arc::clone(registry) as Arc<dyn Authority>);
    let bounds = Bounds { nowhere_tries: 3, ..bounds() };
    world.start_as(|setup| Setup { authority, bounds, ..setup }).await
}

async fn a_blob_that_the_registry_no_longer_has_is_withdrawn(place: Arc<dyn Place>) {
    let world = World::new(place);
    let fan_out = start(&world, Some(&Registry::new(Wanted::No))).await;
    fan_out.enqueue("org/repo", &[(blob(b"deleted"), Some(7))], &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.withdrawn, done.failures, done.copied, done.parked), (1, 2, 0, 0));
    assert!(world.b.contents().await.is_empty());
}

async fn a_job_is_parked_if_the_registry_cannot_be_asked(place: Arc<dyn Place>) {
    let world = World::new(place);
    let lost = [(blob(b"lost"), Some(4))];
    let fan_out = start(&world, None).await;
    fan_out.enqueue("org/repo", &lost, &targets(&["zone-b"])).await.unwrap();
    let parked = until(&fan_out, "zone-b", |lane| lane.parked == 1).await;
    assert_eq!((parked.waiting, parked.parked_bytes, parked.oldest), (0, 4, None));
    // Once a zone has the blob, the job can be added again.
    world.c.holds(&lost[0].0, b"lost");
    fan_out.enqueue("org/repo", &lost, &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.len(), 1);

    let unsure = Registry::new(Wanted::Unknown("401: the robot's password is wrong".into()));
    let unknown = Registry::new(Wanted::Yes);
    for (registry, expected) in [
        (None, "set registry.account"),
        (Some(unsure), "does not say whether it wants it: 401: the robot's password is wrong"),
        (Some(unknown), "does not return it"),
    ] {
        let copier = world.copier("zone-b", registry).await;
        let end = copier.perform(&Job { attempts: 99, ..job(blob(b"gone"), "zone-b", None) }).await;
        assert!(format!("{end:?}").starts_with("Parked") && format!("{end:?}").contains(expected), "{end:?}");
    }
}

async fn a_blob_that_only_the_registry_has_is_read_from_it(place: Arc<dyn Place>) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    let bytes = Bytes::from_static(b"under a key of long ago");
    *registry.gives.lock() = Some(Source::bytes(bytes.clone()));
    let fan_out = start(&world, Some(&registry)).await;
    let legacy = blob(&bytes);
    fan_out.enqueue("org/repo", &[(legacy.clone(), None)], &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await.into_values().collect::<Vec<_>>(), [bytes]);
    assert_eq!(*registry.placed.lock(), [(legacy.digest, "zone-b".into())]);
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.copied, done.failures, done.parked), (1, 2, 0));

    // A write with an unknown outcome may have left an object at the target. It is read and replaced.
    let lost = blob(b"an answer is lost");
    *registry.gives.lock() = Some(Source::bytes(Bytes::from_static(b"an answer is lost")));
    world.b.set(Mode::Spoils);
    fan_out.enqueue("org/repo", &[(lost.clone(), None)], &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await[lost.key.as_str()], "an answer is lost");

    // Bytes that do not match the digest are not written.
    let wrong = Registry::new(Wanted::Yes);
    let other = blob(b"another");
    *wrong.gives.lock() = Some(Source::new(7, other.digest, Arc::new(Bytes::from_static(b"anothEr"))));
    let unknown = Job { attempts: 9, ..job(other, "zone-b", None) };
    let end = world.copier("zone-b", Some(wrong)).await.perform(&unknown).await;
    assert!(format!("{end:?}").contains("other bytes than its digest says"), "{end:?}");
    assert_eq!(world.b.contents().await.len(), 2);
}

async fn a_copy_of_a_blob_that_the_registry_drops_is_not_a_failure(place: Arc<dyn Place>) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    *registry.placing.lock() = Ok(Placed::Withdrawn);
    let fan_out = start(&world, Some(&registry)).await;
    fan_out.enqueue("org/repo", &world.pushed(3), &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    let done = lane(&fan_out, "zone-b").await;
    assert_eq!((done.withdrawn, done.copied, done.failures), (3, 0, 0));
    assert_eq!(world.b.contents().await.len(), 3, "the copies stay");
}

async fn a_registry_that_fails_costs_retries_and_no_pause(place: Arc<dyn Place>) {
    let world = World::new(place);
    let registry = Registry::new(Wanted::Yes);
    *registry.placing.lock() = Err(AuthorityError::new("its database is away"));
    let hour = Duration::from_secs(3600);
    let authority = Some(Arc::clone(&registry) as Arc<dyn Authority>);
    let pause = backends::Backoff { base: hour, max: hour };
    let fan_out =
        world.start_as(|setup| Setup { authority, bounds: Bounds { pause, ..bounds() }, ..setup }).await;
    fan_out.enqueue("org/repo", &world.pushed(10), &targets(&["zone-b"])).await.unwrap();
    // A lane that pauses would have tried only one job.
    let waiting = until(&fan_out, "zone-b", |lane| lane.failing == 10).await;
    assert_eq!(waiting.last_error.as_deref(), Some("registry: its database is away"));
    assert_eq!(world.b.contents().await.len(), 10, "the copies are made");
    *registry.placing.lock() = Ok(Placed::Kept);
    idle(&fan_out).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 10, "copied once");
}
