//! What the tests share: images in every zone, and waits.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, Site};
use harness::zone::Zone;
use serde_json::Value;

pub(crate) const REPOSITORY: &str = "admin/app";

/// The timeout for the gateway to do something.
const SOON: Duration = Duration::from_secs(20);

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until something is so.
pub(crate) async fn until(gateway: &Gateway, what: &str, so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !so().await? {
        ensure!(Instant::now() < deadline, "{what}\n{}", gateway.log());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits for a line of the metrics.
pub(crate) async fn until_measured(gateway: &Gateway, line: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let metrics = gateway.metrics().await?;
        if metrics.lines().any(|other| other == line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{line}\n{metrics}\n{}", gateway.log());
        tokio::time::sleep(PAUSE).await;
    }
}

/// The names of the zones in their order.
pub(crate) async fn names(gateway: &Gateway) -> Result<Vec<String>> {
    let status = gateway.status().await?;
    let names = status["zones"].as_array().context("zones")?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// The lane of a zone.
pub(crate) async fn lane(gateway: &Gateway, zone: &str) -> Result<Value> {
    let status = gateway.status().await?;
    let lanes = status["copies"].as_array().context("copies")?;
    lanes.iter().find(|lane| lane["zone"] == zone).cloned().context("the lane")
}

/// Waits for a state of the lane of a zone.
pub(crate) async fn until_lane(gateway: &Gateway, zone: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let lane = lane(gateway, zone).await.unwrap_or_default();
        if so(&lane) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{lane:#}\n{}", gateway.log());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Pushes an image, and puts its blobs into these zones, too.
pub(crate) async fn pushed(gateway: &Gateway, zones: &[&Zone], seed: u64, bytes: u64) -> Result<Image> {
    let image = Spec::layers(seed, &[bytes]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, &tag(seed), &image).await?;
    for blob in [&image.layers[0], &image.config] {
        zones
            .iter()
            .try_for_each(|zone| zone.write(&blob.digest, &blob.bytes()?).map_err(anyhow::Error::from))?;
    }
    Ok(image)
}

pub(crate) fn tag(seed: u64) -> String {
    format!("v{seed}")
}

/// Writes Quay's own file without one of its zones.
pub(crate) fn without_zone(site: &Site, gateway: &Gateway, zone: &str) -> Result<()> {
    let mut quay = site.quay.config();
    quay["DISTRIBUTED_STORAGE_CONFIG"].as_object_mut().context("zones")?.remove(zone);
    for list in ["DISTRIBUTED_STORAGE_PREFERENCE", "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] {
        quay[list].as_array_mut().context("a list")?.retain(|name| name != zone);
    }
    Ok(std::fs::write(gateway.dir().join("quay.yaml"), serde_json::to_string_pretty(&quay)?)?)
}

/// Writes Quay's own file with all of its zones.
pub(crate) fn with_all_zones(site: &Site, gateway: &Gateway) -> Result<()> {
    let quay = serde_json::to_string_pretty(&site.quay.config())?;
    Ok(std::fs::write(gateway.dir().join("quay.yaml"), quay)?)
}
