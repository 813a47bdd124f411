//! Quay is told of copies.

use std::time::Duration;

use anyhow::{Result, ensure};
use backends::{Digest, Source};
use bytes::Bytes;
use replication::Placed;
use serde_json::json;

use super::stage::{Stage, blob, job};

/// A blob that lies in zone-b.
async fn copied(stage: &Stage, text: &'static str) -> Result<Digest> {
    let source = Source::bytes(Bytes::from_static(text.as_bytes()));
    stage.zone("zone-b")?.store.put(&blob(source.digest()).key, &source).await?;
    Ok(source.digest())
}

#[tokio::test]
async fn every_row_of_the_digest_gets_its_placement_once() -> Result<()> {
    let stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "one").await?;
    let (one, two, old) = (
        stage.tables.add_blob(&digest, true).await?,
        stage.tables.add_blob(&digest, true).await?,
        stage.tables.add_blob(&digest, false).await?,
    );
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    ensure!(authority.must_prove(&job, &zone).await?);
    let placed = || authority.placed(&job, &zone);
    // Several at once, as two replicas may.
    let (first, second, third) = tokio::join!(placed(), placed(), placed());
    for placed in [first, second, third] {
        ensure!(matches!(placed, Ok(Placed::Kept)), "{placed:?}");
    }
    for row in [one, two] {
        ensure!(stage.tables.locations(row).await? == ["zone-b"]);
    }
    ensure!(stage.tables.locations(old).await?.is_empty(), "a blob of old lies elsewhere");
    ensure!(!authority.must_prove(&job, &zone).await?);
    ensure!(stage.site.zone("zone-b").has(&digest));
    Ok(())
}

#[tokio::test]
async fn quays_own_lock_and_ours_exclude_each_other() -> Result<()> {
    let stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "contended").await?;
    let row = stage.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    let name = format!("BLOB_DELETE_{digest}");
    let mut worker = stage.redis.python_lock(&name, 120)?;
    worker.acquire()?;
    let waiting = tokio::spawn(async move { authority.placed(&job, &zone).await });
    // It waits as long as the worker has the lock; that is seen by what does not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(!waiting.is_finished() && stage.tables.locations(row).await?.is_empty(), "not under the lock");
    worker.release()?;
    ensure!(waiting.await?? == Placed::Kept);
    ensure!(stage.tables.locations(row).await? == ["zone-b"]);
    // And it was let go: the worker gets it at once, and others that wait hear of it.
    worker.acquire()?;
    worker.release()
}

#[tokio::test]
async fn while_a_placement_is_written_no_worker_has_the_lock() -> Result<()> {
    let stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "looked at").await?;
    stage.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    let mut worker = stage.redis.python_lock(&format!("BLOB_DELETE_{digest}"), 120)?;
    // The look at the object, which is under the lock, takes long.
    stage.site.zone("zone-b").proxy().set(|faults| faults.hang = true);
    let placed = tokio::spawn(async move { authority.placed(&job, &zone).await });
    let mut tries = 0;
    while worker.try_acquire()? {
        worker.release()?;
        tries += 1;
        ensure!(tries < 600 && !placed.is_finished(), "the lock is never taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.site.zone("zone-b").proxy().heal().await;
    let placed = placed.await?;
    ensure!(matches!(placed, Ok(Placed::Kept) | Err(_)), "{placed:?}");
    ensure!(worker.try_acquire()?, "it is let go, however it ended");
    worker.release()
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_or_away_is_an_error_and_places_nothing() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "held").await?;
    let row = stage.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    let mut worker = stage.redis.python_lock(&format!("BLOB_DELETE_{digest}"), 120)?;
    worker.acquire()?;
    let held = authority.placed(&job, &zone).await.expect_err("held").to_string();
    ensure!(held.contains("is held by another"), "{held}");
    stage.redis.stop();
    let away = authority.placed(&job, &zone).await.expect_err("away").to_string();
    ensure!(away.contains("Redis cannot be reached"), "{away}");
    ensure!(stage.tables.locations(row).await?.is_empty());
    stage.redis.go_on().await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    Ok(())
}

/// An upload may take the object for its own at any moment, under no lock: nothing is deleted.
#[tokio::test]
async fn a_copy_of_what_was_deleted_meanwhile_stays() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "deleted").await?;
    stage.tables.add_blob(&digest, true).await?;
    stage.tables.collect(&digest).await?;
    stage.site.zone("zone-a").write(&digest, b"deleted")?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    ensure!(authority.placed(&job, &zone).await? == Placed::Withdrawn);
    ensure!(stage.site.zone("zone-a").has(&digest) && stage.site.zone("zone-b").has(&digest));
    // Gone: there is nothing to place.
    zone.store.delete(&job.blob.key).await?;
    let gone = authority.placed(&job, &zone).await.expect_err("gone").to_string();
    ensure!(gone.contains("is gone again"), "{gone}");
    Ok(())
}

#[tokio::test]
async fn without_a_lock_placements_are_written_all_the_same() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({"replication": {"quay_lock": false}})).await?;
    stage.redis.stop();
    let digest = copied(&stage, "old Quay").await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    ensure!(authority.placed(&job, &zone).await? == Placed::Withdrawn);
    ensure!(stage.site.zone("zone-b").has(&digest));
    let row = stage.tables.add_blob(&digest, true).await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    ensure!(stage.tables.locations(row).await? == ["zone-b"]);
    Ok(())
}

#[tokio::test]
async fn what_quay_does_not_know_is_an_error_and_what_is_not_its_own_is_left() -> Result<()> {
    let stage = Stage::start().await?;
    let digest = copied(&stage, "elsewhere").await?;
    stage.tables.add_blob(&digest, true).await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    stage.tables.run("UPDATE imagestoragelocation SET name = 'zone-q' WHERE name = 'zone-b'").await?;
    let unknown = authority.placed(&job, &zone).await.expect_err("no such location").to_string();
    ensure!(unknown.contains("Quay has no location zone-b"), "{unknown}");
    // A zone of the gateway's own file: Quay reads nothing there.
    let own = zone_router::Zone::new("zone-d", std::sync::Arc::clone(&zone.store));
    ensure!(!authority.must_prove(&job, &own).await?);
    ensure!(authority.placed(&job, &own).await? == Placed::Kept);
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_away_is_waited_for() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (authority, _files) = stage.authority(&json!({})).await?;
    let digest = copied(&stage, "away").await?;
    let row = stage.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, stage.zone("zone-b")?);
    stage.postgres.crash();
    let away = authority.placed(&job, &zone).await.expect_err("away").to_string();
    ensure!(away.contains("cannot be reached") && !away.contains("correct-horse"), "{away}");
    stage.postgres.go_on().await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    let tables = tests::real::QuayTables::again(&stage.postgres).await?;
    ensure!(tables.locations(row).await? == ["zone-b"]);
    Ok(())
}
