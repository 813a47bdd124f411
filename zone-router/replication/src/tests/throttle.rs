//! Tests how much a lane does at once, and how it follows the router.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backends::{Backoff, Kind};
use tokio::time::Instant;
use zone_router::{RoutedZone, Router};

use super::super::conformance::lanes::{World, bounds, idle, lane, targets, until};
use super::super::conformance::{Mode, blob, job};
use super::super::{Bounds, Limits, LimitsByZone, Setup, Timetable};
use super::FilePlace;

fn only(limits: Limits) -> LimitsByZone {
    LimitsByZone { default: Limits::default(), zones: [("zone-b".to_owned(), limits)].into() }
}

#[tokio::test]
async fn large_blobs_take_turns_and_small_ones_pass() {
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Held);
    let limits = only(Limits { copies: 3, in_flight: 3 << 20, ..Limits::default() });
    let fan_out = world.start_as(|setup| Setup { limits, ..setup }).await;
    // More than the lane copies at once: blobs that wait for a reservation must not use up all copies.
    let large: Vec<_> = (0..5_u8)
        .map(|n| {
            let bytes = vec![n; 2 << 20];
            let blob = blob(&bytes);
            world.a.holds(&blob, &bytes);
            (blob, Some(bytes.len() as u64))
        })
        .collect();
    fan_out.enqueue("org/repo", &large, &targets(&["zone-b"])).await.unwrap();
    until(&fan_out, "zone-b", |lane| lane.active == 2).await;
    world.b.has_begun(1).await;
    fan_out.enqueue("org/repo", &world.pushed(2), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(2).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 2, "one large blob and one small");
    world.b.gate.add_permits(10);
    idle(&fan_out).await;
    assert_eq!(world.b.contents().await, world.a.contents().await);
}

#[tokio::test]
async fn a_limit_slows_one_zone_and_its_removal_applies_at_once() {
    let world = World::new(FilePlace::create());
    let slow = Limits { bandwidth: Timetable::always(Some(1)), ..Limits::default() };
    let fan_out = world.start_as(|setup| Setup { limits: only(slow), ..setup }).await;
    fan_out.enqueue("org/repo", &world.pushed(50), &targets(&["zone-b", "zone-c"])).await.unwrap();
    until(&fan_out, "zone-c", |lane| lane.copied == 50).await;
    let capped = lane(&fan_out, "zone-b").await;
    assert!(capped.copied < 50, "{capped:?}");
    fan_out.set_limits(&LimitsByZone::default());
    // Copies in progress still wait for the bytes that they took at the old rate.
    until(&fan_out, "zone-b", |lane| lane.copied + lane.active >= 50).await;
}

/// While the router's breaker of a zone is open, jobs are tried only from time to time. When it closes, they
/// continue at once.
#[tokio::test]
async fn a_lane_follows_the_breaker() {
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Fails(Kind::Unavailable));
    let router = Arc::new(Router::new(world.zones()));
    router.start(&world.shutdown);
    let out = || router.is_open("zone-b");
    // The router's probes detect it.
    while !out() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hour = Duration::from_secs(3600);
    let wait = Backoff { base: hour, max: hour };
    let (known, limits) = (Arc::clone(&router), Bounds { pause: wait, ..bounds() });
    let fan_out = world.start_as(|setup| Setup { router: Some(known), bounds: limits, ..setup }).await;
    let pushed = world.pushed(20);
    fan_out.enqueue("org/repo", &pushed, &targets(&["zone-b", "zone-c"])).await.unwrap();
    until(&fan_out, "zone-c", |lane| lane.copied == 20).await;
    let waiting = lane(&fan_out, "zone-b").await;
    assert_eq!((waiting.waiting, waiting.attempts, waiting.active), (20, 0, 0));
    world.b.set(Mode::Healthy);
    let healed = Instant::now();
    idle(&fan_out).await;
    assert!(healed.elapsed() < hour && !out());
    assert_eq!(world.b.contents().await, world.a.contents().await);
}

#[tokio::test]
async fn sources_are_asked_in_the_order_of_reads() {
    let world = World::new(FilePlace::create());
    let pushed = world.pushed(1);
    world.c.holds(&pushed[0].0, b"blob 0");
    let mut zones: Vec<_> = world.zones().into_iter().map(RoutedZone::from).collect();
    zones[0].policy.drain = true;
    let mut copier = world.copier("zone-b", None).await;
    copier.router = Some(Arc::new(Router::with(zones, zone_router::Settings::default())));
    copier.copy(&job(pushed[0].0.clone(), "zone-b", pushed[0].1)).await.unwrap();
    assert_eq!(world.a.gets.load(Ordering::SeqCst), 0, "drained: the last to be asked");
    // It is asked all the same if no other zone has the blob.
    world.c.set(Mode::Fails(Kind::Unavailable));
    let more = world.pushed(2);
    copier.copy(&job(more[1].0.clone(), "zone-b", more[1].1)).await.unwrap();
    assert_eq!(world.a.gets.load(Ordering::SeqCst), 1);
}
