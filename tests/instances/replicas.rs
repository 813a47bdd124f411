//! Replicas of the gateway that share a journal, in front of several instances of Quay.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use harness::gateway::overlay;
use http::{Method, StatusCode};
use real_servers::Postgres;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::pair::{PARAMETER, Pair, REPOSITORY, UPLOADS, begun, image};

const SOON: Duration = Duration::from_secs(60);

/// The first replica cannot reach the home instance, so the uploads go to the other one. The second replica prefers home,
/// and knows nothing of the uploads but from the journal.
#[tokio::test]
async fn a_push_goes_on_at_another_replica_with_the_same_instance() -> Result<()> {
    let (pair, postgres) = (Pair::start()?, Postgres::start(None).await?);
    let mut config = pair.config();
    overlay(&mut config, &json!({"journal": postgres.url()}));
    let (one, two) = (pair.gateway_with(&config).await?, pair.gateway_with(&config).await?);
    pair.a().down().await;
    let image = image(1)?;
    let (client, path) = begun(&one).await?;
    for blob in image.blobs() {
        client.push_blob(REPOSITORY, blob).await?;
    }
    pair.a().up().await;
    // A client that drops what it does not know from the Location.
    let token = pair.a().token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let plain = path.replace(&format!("?{PARAMETER}=zone-b"), "");
    ensure!(plain != path, "{path}");
    let other = two.client(None)?;
    let patch = other.raw(Method::PATCH, &plain)?.bearer_auth(&token).body("layer").send().await?;
    ensure!(patch.status() == StatusCode::ACCEPTED, "{}", patch.status());
    let (at_a, at_b) = pair.counts(&Method::PATCH, UPLOADS);
    ensure!(at_a == 0 && at_b > 0, "PATCH: {at_a} at home, {at_b} at the other");
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    let media_type = image.manifest.media_type.clone();
    let put = other.raw(Method::PUT, &manifest)?.bearer_auth(&token).header("content-type", media_type);
    let put = put.body(Bytes::clone(&image.manifest.bytes)).send().await?;
    ensure!(put.status() == StatusCode::CREATED, "{}", put.status());
    ensure!(pair.counts(&Method::PUT, "/manifests/") == (0, 1), "the manifest went to home");
    Ok(())
}

/// While the database is away, each replica knows its own uploads, and a push waits only shortly.
#[tokio::test]
async fn a_push_through_one_replica_needs_no_database() -> Result<()> {
    let (pair, mut postgres) = (Pair::start()?, Postgres::start(None).await?);
    let mut config = pair.config();
    overlay(&mut config, &json!({"journal": postgres.url()}));
    let gateway = pair.gateway_with(&config).await?;
    postgres.crash();
    pair.a().down().await;
    let image = image(2)?;
    let client = gateway.client(harness::site::LOGIN)?;
    for blob in image.blobs() {
        client.push_blob(REPOSITORY, blob).await?;
    }
    pair.a().up().await;
    client.push_manifest(REPOSITORY, "v1", &image.manifest).await?;
    ensure!(pair.counts(&Method::PUT, "/manifests/") == (0, 1), "the manifest went to home");
    postgres.restart().await?;
    let (database, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let end = Instant::now() + SOON;
    loop {
        begun(&gateway).await?;
        let rows = database.query("SELECT instance FROM quay_gateway_upload", &[]).await;
        if rows.is_ok_and(|rows| rows.iter().any(|row| row.get::<_, String>(0).starts_with("zone-"))) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "uploads are not shared again");
        sleep(Duration::from_millis(50)).await;
    }
}
