//! Tests lanes over a journal in an SQLite file that is killed, or cannot be written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backends::Backoff;

use super::super::conformance::Mode;
use super::super::conformance::lanes::{World, bounds, idle, lane, targets};
use super::super::{Bounds, FanOut, Setup};
use super::FilePlace;

#[test]
fn a_kill_in_the_middle_of_copies_loses_none() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::new(FilePlace::create());
    world.b.set(Mode::Held);
    let dying = runtime();
    let blobs = world.pushed(10);
    dying.block_on(async {
        let fan_out = world.start().await;
        fan_out.enqueue("org/repo", &blobs, &targets(&["zone-b"])).await.unwrap();
        // One of the eight copies in progress ends, and another one starts.
        world.b.has_begun(8).await;
        world.b.gate.add_permits(1);
        world.b.has_begun(9).await;
    });
    dying.shutdown_background();
    runtime().block_on(async {
        assert_eq!(world.b.contents().await.len(), 1);
        world.b.set(Mode::Healthy);
        let fan_out = world.start().await;
        idle(&fan_out).await;
        assert_eq!(world.b.contents().await, world.a.contents().await);
        assert_eq!(lane(&fan_out, "zone-b").await.copied, 9);
    });
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_makes_no_lane_spin() {
    let world = World::new(FilePlace::create());
    let pause = Backoff { base: Duration::from_millis(200), max: Duration::from_millis(200) };
    let zones = vec![world.a.zone("zone-a"), world.b.zone("zone-b")];
    let journal = world.place.open().await;
    let setup = Setup { bounds: Bounds { pause, ..bounds() }, ..Setup::new(zones, journal.clone()) };
    let fan_out = FanOut::start(setup, world.shutdown.clone());
    world.b.set(Mode::Held);
    fan_out.enqueue("org/repo", &world.pushed(1), &targets(&["zone-b"])).await.unwrap();
    world.b.has_begun(1).await;
    let refuse = "CREATE TRIGGER refuse BEFORE DELETE ON job BEGIN SELECT raise(ABORT, 'scripted'); END";
    journal.write(move |db| db.execute_batch(refuse)).await.unwrap();
    world.b.gate.add_permits(10);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let checks = world.b.heads.load(Ordering::SeqCst);
    // About one for each pause. A lane without a pause makes thousands.
    assert!(checks <= 20, "{checks} checks in 500 ms");
    assert_eq!(lane(&fan_out, "zone-b").await.waiting, 1);

    journal.write(|db| db.execute_batch("DROP TRIGGER refuse")).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.puts.load(Ordering::SeqCst), 1);
}

/// Size 0 is the read mark, which an audit sets. A manifest cannot set it.
#[tokio::test]
async fn a_client_cannot_demand_that_an_object_is_read() {
    let world = World::new(FilePlace::create());
    let blobs: Vec<_> = world.pushed(1).into_iter().map(|(blob, _)| (blob, Some(0))).collect();
    world.b.holds(&blobs[0].0, b"blob 0");
    let fan_out = world.start().await;
    fan_out.enqueue("org/repo", &blobs, &targets(&["zone-b"])).await.unwrap();
    idle(&fan_out).await;
    assert_eq!(world.b.gets.load(Ordering::SeqCst), 0);
}
