//! Tests a fan-out that takes the place of another one.

use std::sync::atomic::Ordering;

use super::super::conformance::Mode;
use super::super::conformance::lanes::{World, bounds, idle, lane, targets, until};
use super::super::{FanOut, Setup};
use super::FilePlace;
use zone_router::Zone;

/// The fan-out with other zones. Those in `changed` have another store.
fn with_zones(fan_out: &FanOut, zones: Vec<Zone>, changed: &[&str]) -> FanOut {
    let setup = Setup { bounds: bounds(), ..Setup::new(zones, fan_out.journal().clone()) };
    fan_out.successor(setup, |zone| !changed.contains(&zone))
}

#[tokio::test]
async fn a_copy_in_progress_ends_as_it_began_if_its_zone_stays() {
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Held);
    let first = world.start().await;
    first.enqueue("org/repo", &world.pushed(1), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(1).await;
    let second = with_zones(&first, vec![world.b.zone("zone-b"), world.a.zone("zone-a")], &[]);
    world.b.gate.add_permits(1);
    idle(&second).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 1, "it was not begun again");
    assert_eq!(lane(&second, "zone-b").await.copied, 1);
    // Whoever still has the first one sees the same.
    assert_eq!(lane(&first, "zone-b").await.copied, 1);
}

#[tokio::test]
async fn jobs_of_a_zone_that_is_gone_stay_and_it_may_come_back() {
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Held);
    let first = world.start().await;
    first.enqueue("org/repo", &world.pushed(2), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(2).await;
    let second = with_zones(&first, vec![world.a.zone("zone-a"), world.c.zone("zone-c")], &[]);
    let gone = until(&second, "zone-b", |lane| lane.waiting == 2).await;
    assert!(!gone.configured);
    assert_eq!(lane(&second, "zone-c").await.waiting, 0);
    world.b.set(Mode::Healthy);
    let third = with_zones(&second, world.zones(), &[]);
    idle(&third).await;
    assert_eq!(world.b.contents().await, world.a.contents().await);
}

#[tokio::test]
async fn a_copy_into_a_store_that_is_replaced_is_made_in_the_new_one() {
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Held);
    let first = world.start().await;
    first.enqueue("org/repo", &world.pushed(1), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(1).await;
    let second = with_zones(&first, vec![world.a.zone("zone-a"), world.c.zone("zone-b")], &["zone-b"]);
    idle(&second).await;
    assert_eq!(world.c.contents().await, world.a.contents().await);
    assert_eq!(world.b.contents().await.len(), 0);
    world.shutdown.cancel();
    second.stopped().await;
}
