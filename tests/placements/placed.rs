//! Copies are recorded in Quay's database.

use std::time::Duration;

use anyhow::{Result, ensure};
use backends::{Digest, Source};
use bytes::Bytes;
use replication::Placed;
use serde_json::json;

use super::fixture::{Fixture, blob, job};

/// A blob that is in zone-b.
async fn copied(fixture: &Fixture, text: &'static str) -> Result<Digest> {
    let source = Source::bytes(Bytes::from_static(text.as_bytes()));
    fixture.zone("zone-b")?.store.put(&blob(source.digest()).key, &source).await?;
    Ok(source.digest())
}

#[tokio::test]
async fn every_row_of_the_digest_gets_its_placement_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "one").await?;
    let (one, two, old) = (
        fixture.tables.add_blob(&digest, true).await?,
        fixture.tables.add_blob(&digest, true).await?,
        fixture.tables.add_blob(&digest, false).await?,
    );
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    ensure!(authority.must_prove(&job, &zone).await?);
    let placed = || authority.placed(&job, &zone);
    // Several at once, as two replicas may do.
    let (first, second, third) = tokio::join!(placed(), placed(), placed());
    for placed in [first, second, third] {
        ensure!(matches!(placed, Ok(Placed::Kept)), "{placed:?}");
    }
    for row in [one, two] {
        ensure!(fixture.tables.locations(row).await? == ["zone-b"]);
    }
    ensure!(fixture.tables.locations(old).await?.is_empty(), "an old row uses another path");
    ensure!(!authority.must_prove(&job, &zone).await?);
    ensure!(fixture.site.zone("zone-b").has(&digest));
    Ok(())
}

#[tokio::test]
async fn quays_own_lock_and_ours_exclude_each_other() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "contended").await?;
    let row = fixture.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    let name = format!("BLOB_DELETE_{digest}");
    let mut worker = fixture.redis.python_lock(&name, 120)?;
    worker.acquire()?;
    let waiting = tokio::spawn(async move { authority.placed(&job, &zone).await });
    // The placement waits as long as the worker has the lock. The test sees this because nothing happens.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(
        !waiting.is_finished() && fixture.tables.locations(row).await?.is_empty(),
        "written without the lock"
    );
    worker.release()?;
    ensure!(waiting.await?? == Placed::Kept);
    ensure!(fixture.tables.locations(row).await? == ["zone-b"]);
    // The lock was released: the worker gets it at once, and others that wait are notified.
    worker.acquire()?;
    worker.release()
}

#[tokio::test]
async fn no_worker_gets_the_lock_while_a_placement_is_written() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "looked at").await?;
    fixture.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    let mut worker = fixture.redis.python_lock(&format!("BLOB_DELETE_{digest}"), 120)?;
    // The check of the object, which needs the lock, takes long.
    fixture.site.zone("zone-b").proxy().set(|faults| faults.hang = true);
    let placed = tokio::spawn(async move { authority.placed(&job, &zone).await });
    let mut tries = 0;
    while worker.try_acquire()? {
        worker.release()?;
        tries += 1;
        ensure!(tries < 600 && !placed.is_finished(), "the lock was not taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.site.zone("zone-b").proxy().heal().await;
    let placed = placed.await?;
    ensure!(matches!(placed, Ok(Placed::Kept) | Err(_)), "{placed:?}");
    ensure!(worker.try_acquire()?, "the lock was not released");
    worker.release()
}

#[tokio::test]
async fn a_lock_that_is_taken_or_unreachable_is_an_error_and_nothing_is_placed() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "held").await?;
    let row = fixture.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    let mut worker = fixture.redis.python_lock(&format!("BLOB_DELETE_{digest}"), 120)?;
    worker.acquire()?;
    let held = authority.placed(&job, &zone).await.expect_err("held").to_string();
    ensure!(held.contains("is held by another"), "{held}");
    fixture.redis.stop();
    let away = authority.placed(&job, &zone).await.expect_err("away").to_string();
    ensure!(away.contains("Redis cannot be reached"), "{away}");
    ensure!(fixture.tables.locations(row).await?.is_empty());
    fixture.redis.restart().await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    Ok(())
}

/// An error that Redis answers is not the lock: as after a failover to the gateway's old primary, or without memory.
#[tokio::test]
async fn a_redis_that_refuses_gives_no_lock() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "refused").await?;
    let row = fixture.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    ensure!(fixture.redis.command("REPLICAOF 127.0.0.1 1").await?.starts_with("+OK"));
    let refused = authority.placed(&job, &zone).await.expect_err("refused").to_string();
    ensure!(refused.contains("READONLY"), "{refused}");
    ensure!(fixture.tables.locations(row).await?.is_empty());
    ensure!(fixture.redis.command("REPLICAOF NO ONE").await?.starts_with("+OK"));
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    Ok(())
}

/// An upload may adopt the object at any moment, without a lock. Nothing is deleted.
#[tokio::test]
async fn a_copy_of_a_deleted_blob_stays() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "deleted").await?;
    fixture.tables.add_blob(&digest, true).await?;
    fixture.tables.collect(&digest).await?;
    fixture.site.zone("zone-a").write(&digest, b"deleted")?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    ensure!(authority.placed(&job, &zone).await? == Placed::Withdrawn);
    ensure!(fixture.site.zone("zone-a").has(&digest) && fixture.site.zone("zone-b").has(&digest));
    // The object is missing, so there is nothing to record.
    zone.store.delete(&job.blob.key).await?;
    let gone = authority.placed(&job, &zone).await.expect_err("gone").to_string();
    ensure!(gone.contains("is gone again"), "{gone}");
    Ok(())
}

#[tokio::test]
async fn placements_are_also_written_without_a_lock() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({"replication": {"quay_lock": false}})).await?;
    fixture.redis.stop();
    let digest = copied(&fixture, "old Quay").await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    ensure!(authority.placed(&job, &zone).await? == Placed::Withdrawn);
    ensure!(fixture.site.zone("zone-b").has(&digest));
    let row = fixture.tables.add_blob(&digest, true).await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    ensure!(fixture.tables.locations(row).await? == ["zone-b"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_location_is_an_error_and_the_gateways_own_zones_are_skipped() -> Result<()> {
    let fixture = Fixture::start().await?;
    let digest = copied(&fixture, "elsewhere").await?;
    fixture.tables.add_blob(&digest, true).await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    fixture.tables.run("UPDATE imagestoragelocation SET name = 'zone-q' WHERE name = 'zone-b'").await?;
    let unknown = authority.placed(&job, &zone).await.expect_err("no such location").to_string();
    ensure!(unknown.contains("Quay has no location zone-b"), "{unknown}");
    // A zone of the gateway's own file. Quay does not use it.
    let own = zone_router::Zone::new("zone-d", std::sync::Arc::clone(&zone.store));
    ensure!(!authority.must_prove(&job, &own).await?);
    ensure!(authority.placed(&job, &own).await? == Placed::Kept);
    Ok(())
}

#[tokio::test]
async fn copies_wait_for_an_unreachable_database() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({})).await?;
    let digest = copied(&fixture, "away").await?;
    let row = fixture.tables.add_blob(&digest, true).await?;
    let (job, zone) = (job(digest, "zone-b", &["admin/one"]).await?, fixture.zone("zone-b")?);
    fixture.postgres.crash();
    let away = authority.placed(&job, &zone).await.expect_err("away").to_string();
    ensure!(away.contains("cannot be reached") && !away.contains("correct-horse"), "{away}");
    fixture.postgres.restart().await?;
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    let tables = real_servers::QuayTables::again(&fixture.postgres).await?;
    ensure!(tables.locations(row).await? == ["zone-b"]);
    Ok(())
}
