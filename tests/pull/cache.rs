//! The cache: hits, shared fills, restarts, and blobs that are not kept.

use std::time::Duration;

use anyhow::Result;
use harness::image::Spec;
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::json;

use super::fixture::{Fixture, REPOSITORY};

#[tokio::test]
async fn cold_from_home_then_warm_from_the_cache() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let client = fixture.gateway.client(LOGIN)?;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        let miss = r#"quay-gateway; fwd=miss; stored; detail="zone=zone-a""#;
        assert_eq!(pulled.cache_status.as_deref(), Some(miss));
    }
    fixture.site.zone("zone-a").proxy().down().await;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}

#[tokio::test]
async fn many_clients_cost_the_zone_one_read() -> Result<()> {
    let fixture = Fixture::plain().await?;
    fixture.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = Some(1_000_000));
    let blob = fixture.layer();
    let pulls = (0..20).map(|_| fixture.get(&blob.digest, &[]));
    for answer in futures_util::future::join_all(pulls).await {
        assert_eq!(answer?.body, blob.bytes()?);
    }
    let key = blob.digest.hex();
    assert_eq!(fixture.site.zone("zone-a").proxy().record().reads(&key).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_stops_nothing() -> Result<()> {
    let fixture = Fixture::plain().await?;
    fixture.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = Some(300_000));
    let blob = fixture.layer();
    let client = fixture.gateway.client(LOGIN)?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let response = client.send(Method::GET, &path, &[], bytes::Bytes::new()).await?;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    let hit = "quay-gateway; hit";
    for _ in 0..4000 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let cached =
            fixture.gateway.cache_dir().join("sha256").join(&blob.digest.hex()[..2]).join(blob.digest.hex());
        if cached.is_file() {
            assert_eq!(fixture.get(&blob.digest, &[]).await?.header("cache-status"), hit);
            return Ok(());
        }
    }
    panic!("the fill stopped with its client");
}

#[tokio::test]
async fn the_cache_survives_a_restart() -> Result<()> {
    let mut fixture = Fixture::plain().await?;
    let digest = fixture.layer().digest;
    fixture.get(&digest, &[]).await?;
    assert!(fixture.gateway.terminate().await?.success());
    fixture.gateway.spawn().await?;
    fixture.site.zone("zone-a").proxy().down().await;
    assert_eq!(fixture.get(&digest, &[]).await?.header("cache-status"), "quay-gateway; hit");
    Ok(())
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_is_streamed() -> Result<()> {
    let config = json!({"cache": {"size": "100KiB"}});
    let fixture = Fixture::new(Options::default(), config).await?;
    let blob = fixture.layer();
    for _ in 0..2 {
        let answer = fixture.get(&blob.digest, &[]).await?;
        assert_eq!((answer.status, answer.body.clone()), (StatusCode::OK, blob.bytes()?));
        assert_eq!(
            answer.header("cache-status"),
            r#"quay-gateway; fwd=miss; detail="zone=zone-a, not stored: too-large""#
        );
    }
    Ok(())
}

/// A single request whose client leaves at once must not evict blobs that are requested again and again.
#[tokio::test]
async fn an_abandoned_request_evicts_nothing() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"cache": {"size": "16MiB"}})).await?;
    let client = gateway.client(LOGIN)?;
    let twelve = Spec::layers(1, &[1_000_000; 12]).build()?;
    let large = Spec::layers(2, &[13_000_000]).build()?;
    for (tag, image) in [("twelve", &twelve), ("large", &large)] {
        client.push(REPOSITORY, tag, image).await?;
    }
    for _ in 0..2 {
        client.pull(REPOSITORY, "twelve").await?;
    }
    let path = format!("/v2/{REPOSITORY}/blobs/{}", large.layers[0].digest);
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let abandoned = client.raw(Method::GET, &path)?.bearer_auth(token).send().await?;
    assert_eq!(abandoned.status(), StatusCode::OK);
    drop(abandoned);
    while gateway.status().await?["cache"]["fills"] != 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for layer in &twelve.layers {
        let pulled = client.pull_blob(REPOSITORY, &layer.digest).await?;
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}
