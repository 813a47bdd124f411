//! What operators see of zones, and what they say of them while the gateway runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::gateway::Gateway;
use tests::image::{Image, Spec};
use tests::quay::Options;
use tests::site::{LOGIN, Site, ZONES};

const REPOSITORY: &str = "admin/app";

/// For what the gateway does on its own, such as reading its configuration again.
const SOON: Duration = Duration::from_secs(10);

async fn get(gateway: &Gateway, path: &str) -> Result<String> {
    let url = format!("http://{}{path}", gateway.admin_address());
    Ok(tests::http_client()?.get(url).send().await?.error_for_status()?.text().await?)
}

async fn zone(gateway: &Gateway, name: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(&get(gateway, "/zones").await?)?;
    let zones = report["zones"].as_array().context("zones")?;
    zones.iter().find(|zone| zone["name"] == name).cloned().context("the zone")
}

async fn until(gateway: &Gateway, name: &str, state: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let zone = zone(gateway, name).await?;
        if zone["state"] == state {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} is not {state}: {zone:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Metrics of zones are a moment old.
async fn until_measured(gateway: &Gateway, line: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let metrics = get(gateway, "/metrics").await?;
        if metrics.lines().any(|other| other == line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{line}\n{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An image of its own, in every zone.
async fn pushed(site: &Site, gateway: &Gateway, seed: u64) -> Result<Image> {
    let image = Spec::layers(seed, &[40_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, &format!("v{seed}"), &image).await?;
    for blob in [&image.layers[0], &image.config] {
        site.zones
            .iter()
            .try_for_each(|zone| Ok::<_, anyhow::Error>(zone.write(&blob.digest, &blob.bytes()?)?))?;
    }
    Ok(image)
}

/// Pulls it; where its layer came from.
async fn source(gateway: &Gateway, seed: u64, image: &Image) -> Result<String> {
    let blobs = gateway.client(LOGIN)?.pull(REPOSITORY, &format!("v{seed}")).await?;
    let layer = blobs.iter().find(|blob| blob.digest == image.layers[0].digest).context("the layer")?;
    Ok(layer.cache_status.clone().unwrap_or_default())
}

async fn pulled_from(site: &Site, gateway: &Gateway, seed: u64) -> Result<String> {
    let image = pushed(site, gateway, seed).await?;
    source(gateway, seed, &image).await
}

async fn command(gateway: &Gateway, arguments: &[&str]) -> Result<(bool, String)> {
    let output = gateway.command(arguments).await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

#[tokio::test]
async fn a_zone_is_drained_and_undrained_by_command() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    assert!(pulled_from(&site, &gateway, 1).await?.contains("zone=zone-a"));
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-a"]).await?;
    assert!(ok && said.contains("zone-a is drained"), "{said}");
    until(&gateway, "zone-a", "drained").await?;
    assert!(!pulled_from(&site, &gateway, 2).await?.contains("zone=zone-a"));
    // A restart does not undo it.
    gateway.terminate().await?;
    gateway.spawn().await?;
    until(&gateway, "zone-a", "drained").await?;
    let (ok, said) = command(&gateway, &["zones"]).await?;
    assert!(ok && said.contains("drained by command: quay-gateway zones undrain zone-a"), "{said}");
    let (ok, said) = command(&gateway, &["zones", "undrain", "zone-a"]).await?;
    assert!(ok, "{said}");
    until(&gateway, "zone-a", "healthy").await?;
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-x"]).await?;
    assert!(!ok && said.contains("there is no zone zone-x; zones are zone-a, zone-b, zone-c"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_last_zone_is_not_drained() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    for zone in ["zone-a", "zone-b"] {
        assert!(command(&gateway, &["zones", "drain", zone]).await?.0);
    }
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-c"]).await?;
    assert!(!ok && said.contains("undrain another first"), "{said}");
    Ok(())
}

#[tokio::test]
async fn commands_are_for_the_command_line() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let url = format!("http://{}/zones/zone-a/drain", gateway.admin_address());
    // As a page in a browser on this machine could ask.
    let answer = tests::http_client()?.post(url).send().await?;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(zone(&gateway, "zone-a").await?["state"], "healthy");
    Ok(())
}

#[tokio::test]
async fn a_configuration_read_again_changes_the_word_on_zones() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let routing = json!({ "zones": { "zone-a": { "drain": true }, "zone-b": { "reads": "never" } } });
    gateway.configure(&site.gateway_config(&json!({ "routing": routing })))?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "zone-a", "drained").await?;
    until(&gateway, "zone-b", "never read").await?;
    assert!(pulled_from(&site, &gateway, 1).await?.contains("zone=zone-c"));
    let (ok, said) = command(&gateway, &["zones", "undrain", "zone-a"]).await?;
    assert!(!ok && said.contains("routing.zones.zone-a.drain"), "{said}");
    // What is refused changes nothing.
    let routing = json!({ "zones": { "zone-a": { "weight": 0 } } });
    gateway.configure(&site.gateway_config(&json!({ "routing": routing })))?;
    gateway.signal(Signal::HUP)?;
    let deadline = Instant::now() + SOON;
    while !gateway.log().contains("routing.zones.zone-a.weight: must be between") {
        ensure!(Instant::now() < deadline, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(zone(&gateway, "zone-a").await?["state"], "drained");
    gateway.configure(&site.gateway_config(&json!({})))?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "zone-a", "healthy").await
}

#[tokio::test]
async fn an_outage_is_seen_and_so_is_its_end() -> Result<()> {
    let site = Site::with(&ZONES, Options::default())?;
    let gateway = site.gateway(&json!({})).await?;
    let image = pushed(&site, &gateway, 1).await?;
    until(&gateway, "zone-a", "healthy").await?;
    site.zone("zone-a").proxy().down().await;
    until(&gateway, "zone-a", "ejected").await?;
    assert!(source(&gateway, 1, &image).await?.contains("zone=zone-b"));
    for line in [
        "quay_gateway_zone_serves{zone=\"zone-a\"} 0",
        "quay_gateway_zone_state{zone=\"zone-a\",state=\"ejected\"} 1",
        "quay_gateway_zone_reads_total{zone=\"zone-b\"} 2",
        "quay_gateway_zones_all_ejected 0",
    ] {
        until_measured(&gateway, line).await?;
    }
    let (ok, said) = command(&gateway, &["zones"]).await?;
    assert!(ok && said.contains("zone zone-a: ejected: unavailable: "), "{said}");
    let (_, said) = command(&gateway, &["zones", "--output", "json"]).await?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!(report["zones"][0]["classes"][0]["why"], "ejected");
    site.zone("zone-a").proxy().heal().await;
    until(&gateway, "zone-a", "healthy").await?;
    assert!(gateway.log().contains("zone is out of use: reads go to others"));
    assert!(gateway.log().contains("zone is in use again"));
    Ok(())
}
