//! Blobs that home lacks: another zone has them, or only the registry (registry fallback).

use std::time::Duration;

use anyhow::Result;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::quay::{Delivery, Options};
use harness::site::{LOGIN, Site};
use http::StatusCode;
use serde_json::json;

use super::fixture::{Fixture, REPOSITORY};

#[tokio::test]
async fn a_blob_that_home_lacks_comes_from_another_zone_and_is_copied_home() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let blob = fixture.layer();
    fixture.site.zone("zone-c").write(&blob.digest, &blob.bytes()?)?;
    fixture.site.zone("zone-a").delete(&blob.digest)?;
    let answer = fixture.get(&blob.digest, &[]).await?;
    assert_eq!(answer.body, blob.bytes()?);
    assert!(answer.header("cache-status").contains("zone=zone-c"));
    for _ in 0..4000 {
        if fixture.site.zone("zone-a").has(&blob.digest) {
            assert_eq!(fixture.site.zone("zone-a").read(&blob.digest)?, blob.bytes()?);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no copy arrived at home");
}

/// A gateway that knows only `zones`, and not the zones to which Quay writes. It must use the registry
/// fallback.
async fn without_quays_zones(site: Site, zones: serde_json::Value) -> Result<Fixture> {
    let mut quay = site.quay.config();
    for key in [
        "DISTRIBUTED_STORAGE_CONFIG",
        "DISTRIBUTED_STORAGE_PREFERENCE",
        "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS",
    ] {
        quay.as_object_mut().expect("an object").remove(key);
    }
    // That store is on loopback, at a port that is not in the gateway's configuration.
    let named = json!({"redirects_to": ["127.0.0.1"]});
    let config = site.gateway_config(&json!({ "zones": zones, "registry": named }));
    let gateway = Gateway::start(&config, &[("quay.yaml", &quay.to_string())]).await?;
    let image = Spec::layers(1, &[300_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    Ok(Fixture { site, gateway, image })
}

async fn through_quay(options: Options) -> Result<Fixture> {
    let empty = tempfile::tempdir()?;
    let zones = json!({"elsewhere": ["LocalStorage", {"storage_path": empty.path()}]});
    without_quays_zones(Site::with(&[("zone-a", Duration::ZERO)], options)?, zones).await
}

async fn served_and_kept(fixture: &Fixture, from: &str) -> Result<()> {
    let blob = fixture.layer();
    let miss = fixture.get(&blob.digest, &[]).await?;
    assert_eq!((miss.status, &miss.body), (StatusCode::OK, &blob.bytes()?));
    assert_eq!(miss.header("cache-status"), format!("quay-gateway; fwd=miss; stored; detail=\"{from}\""));
    let hit = fixture.get(&blob.digest, &[("range", "bytes=5-9")]).await?;
    assert_eq!((hit.status, &hit.body[..]), (StatusCode::PARTIAL_CONTENT, &blob.bytes()?[5..10]));
    Ok(())
}

#[tokio::test]
async fn quays_redirect_is_followed_without_the_clients_token() -> Result<()> {
    let fixture = through_quay(Options::default()).await?;
    served_and_kept(&fixture, "registry-redirect").await?;
    let store = fixture.site.zone("zone-a").proxy().record().reads(&fixture.layer().digest.hex());
    assert_eq!(store.len(), 1);
    assert_eq!(store[0].header("authorization"), "");
    Ok(())
}

/// Some clients ask while another client's fill is still asking the zones without success.
#[tokio::test]
async fn many_pulls_of_a_blob_that_only_the_registry_has() -> Result<()> {
    let zones = [("zone-a", Duration::from_millis(20)), ("zone-b", Duration::from_millis(40))];
    let site = Site::with(&zones, Options::default())?;
    let other = json!({"zone-b": site.zone("zone-b").location().quay_entry()});
    let fixture = without_quays_zones(site, other).await?;
    let pulls = (0..12).map(|n| {
        let fixture = &fixture;
        async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            fixture.get(&fixture.layer().digest, &[]).await
        }
    });
    for answer in futures_util::future::join_all(pulls).await {
        let answer = answer?;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, fixture.layer().bytes()?));
    }
    Ok(())
}

#[tokio::test]
async fn quays_stream_is_accepted() -> Result<()> {
    let fixture = through_quay(Options { delivery: Delivery::Stream, ..Options::default() }).await?;
    served_and_kept(&fixture, "registry").await
}

#[tokio::test]
async fn storage_proxy_is_dialled_at_the_registry() -> Result<()> {
    // In split DNS the registry's name is the gateway itself. Dialling it would be a loop.
    let hostname = Some("quay.example.com".into());
    let fixture =
        through_quay(Options { delivery: Delivery::StorageProxy, hostname, ..Options::default() }).await?;
    served_and_kept(&fixture, "registry").await
}

#[tokio::test]
async fn a_dead_end_at_the_registry_is_a_clear_error() -> Result<()> {
    let fixture = through_quay(Options::default()).await?;
    fixture.site.zone("zone-a").proxy().down().await;
    let answer = fixture.get(&fixture.layer().digest, &[]).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(body["errors"][0]["detail"]["fault"], "zone");
    assert!(!String::from_utf8_lossy(&answer.body).contains("Signature"), "a signature leaked");
    assert!(!fixture.gateway.log().contains("X-Amz-Signature"), "a signature leaked into the log");
    Ok(())
}
