//! Tests objects that existed before a job, together with the registry.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use backends::Kind;

use super::super::conformance::authority::Registry;
use super::super::conformance::lanes::World;
use super::super::conformance::{Mode, blob, job};
use super::super::{AuthorityError, Fault, Outcome, Verify, Wanted};
use super::FilePlace;

/// An object that the gateway did not write is read before the registry is told. A wrong one is replaced.
#[tokio::test]
async fn an_existing_object_is_verified_before_the_registry_is_told() {
    let world = World::new(FilePlace::create());
    let registry = Registry::new(Wanted::Yes);
    let (right, wrong) = (blob(b"right"), blob(b"wrong"));
    for held in [&world.a, &world.b] {
        held.holds(&right, b"right");
        held.holds(&wrong, b"wrong");
    }
    world.b.holds(&wrong, b"wrOng");
    let copier = world.copier("zone-b", Some(Arc::clone(&registry))).await;
    let of = |blob: &zone_router::Blob| job(blob.clone(), "zone-b", Some(5));
    assert_eq!(copier.copy(&of(&wrong)).await.unwrap(), Outcome::AlreadyThere, "its size is right");
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 0);
    registry.must_prove.store(true, Ordering::SeqCst);
    assert_eq!(copier.copy(&of(&right)).await.unwrap(), Outcome::AlreadyThere);
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes: 5, replaced: true };
    assert_eq!(copier.copy(&of(&wrong)).await.unwrap(), replaced);
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 2);
    assert_eq!(world.b.contents().await, world.a.contents().await);
    assert_eq!(registry.placed.lock().len(), 3);

    // The same holds if every object must be read.
    world.b.holds(&wrong, b"wroNg");
    let mut deep = world.copier("zone-b", None).await;
    deep.verify = Verify::Deep;
    assert_eq!(deep.copy(&of(&wrong)).await.unwrap(), replaced);
    world.a.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(deep.copy(&of(&wrong)).await.unwrap(), Outcome::AlreadyThere);
    world.b.holds(&wrong, b"wroNg");
    assert!(deep.copy(&of(&wrong)).await.is_err(), "a wrong object that is not replaced does not count");
}

/// While the registry cannot be told, the object is not read at every try.
#[tokio::test]
async fn an_object_that_waits_for_the_registry_is_read_once() {
    let world = World::new(FilePlace::create());
    let registry = Registry::new(Wanted::Yes);
    let right = blob(b"right");
    world.a.holds(&right, b"right");
    world.b.holds(&right, b"right");
    registry.must_prove.store(true, Ordering::SeqCst);
    *registry.placing.lock() = Err(AuthorityError::new("no lock"));
    let copier = world.copier("zone-b", Some(Arc::clone(&registry))).await;
    for _ in 0..3 {
        let error = copier.copy(&job(right.clone(), "zone-b", Some(5))).await.unwrap_err();
        assert_eq!(error.fault, Fault::Registry);
    }
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 1);
}
