//! Zones that come, change and go.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::gateway::Gateway;
use harness::quay::Options;
use harness::site::{LOGIN, Site, ZONES};
use harness::zone::Zone;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fixture::{
    REPOSITORY, names, pushed, tag, until, until_lane, until_measured, with_all_zones, without_zone,
};

const IMAGES: u64 = 12;

/// Two zones, and a third one that the site does not know.
fn two_and_one() -> Result<(Site, Zone)> {
    let two = [ZONES[0].0, ZONES[1].0].map(|name| (name, Duration::ZERO));
    Ok((Site::with(&two, Options::default())?, Zone::start("zone-new", Duration::ZERO)?))
}

/// Pulls all images again and again until it is told to stop. Ends with the first pull that fails.
fn pulls(gateway: &Gateway) -> Result<(oneshot::Sender<()>, JoinHandle<Result<u32>>)> {
    let client = gateway.client(LOGIN)?;
    let (stop, mut stopped) = oneshot::channel();
    let pulls = tokio::spawn(async move {
        let mut pulls = 0;
        for seed in (0..IMAGES).cycle() {
            client.pull(REPOSITORY, &tag(seed)).await?;
            pulls += 1;
            if stopped.try_recv().is_ok() {
                break;
            }
        }
        Ok(pulls)
    });
    Ok((stop, pulls))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_come_and_go_many_times_and_no_pull_fails() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({ "cache": { "size": "4KiB" } })).await?;
    let zones: Vec<_> = site.zones.iter().collect();
    for seed in 0..IMAGES {
        pushed(&gateway, &zones, seed, 40_000).await?;
    }
    let (stop, pulls) = pulls(&gateway)?;
    for turn in 1..=12 {
        let gone = ZONES[turn % 3].0;
        without_zone(&site, &gateway, gone)?;
        let limits = json!({ "cache": { "size": "4KiB" }, "limits": { "connections": 100 + turn } });
        gateway.configure(&site.gateway_config(&limits))?;
        gateway.signal(Signal::HUP)?;
        let slots = format!("quay_gateway_pool_slots{{pool=\"limits.connections\"}} {}", 100 + turn);
        until_measured(&gateway, &slots).await?;
        let left: Vec<_> = ZONES.iter().map(|(name, _)| *name).filter(|name| *name != gone).collect();
        until(&gateway, "the zones that are left", async || Ok(names(&gateway).await? == left)).await?;
    }
    stop.send(()).ok().context("the pulls ended")?;
    assert!(pulls.await?? > 0);
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_is_added_is_read_and_no_pull_fails() -> Result<()> {
    let (site, new) = two_and_one()?;
    // Nothing is kept, so that every pull reads from a zone.
    let small = json!({ "cache": { "size": "4KiB" } });
    let gateway = site.gateway(&small).await?;
    let zones = [&site.zones[0], &site.zones[1], &new];
    for seed in 0..IMAGES {
        pushed(&gateway, &zones, seed, 40_000).await?;
    }
    let (stop, pulls) = pulls(&gateway)?;
    let config = json!({
        "cache": { "size": "4KiB" },
        "zones": { "zone-new": new.quay_entry() },
        "routing": { "zones": { "zone-a": { "drain": true }, "zone-b": { "drain": true } } },
    });
    gateway.configure(&site.gateway_config(&config))?;
    gateway.logged("configuration read again: applied, without a restart").await?;
    until_measured(&gateway, "quay_gateway_zone_usable{zone=\"zone-new\"} 1").await?;
    until(&gateway, "the zones", async || Ok(names(&gateway).await? == ["zone-a", "zone-b", "zone-new"]))
        .await?;
    // All of the next reads come from the new zone.
    let source = "quay_gateway_zone_state{zone=\"zone-new\",state=\"healthy\"} 1";
    until_measured(&gateway, source).await?;
    let read = new.proxy().record();
    until(&gateway, "a read from the new zone", async || Ok(!read.reads("/sha256/").is_empty())).await?;
    stop.send(()).ok().context("the pulls ended")?;
    assert!(pulls.await?? > 0);
    let log = gateway.log();
    assert!(log.contains("zones.zone-new") && log.contains("routing.zones.zone-a.drain"), "{log}");
    assert!(!log.contains(&new.secret_key), "the log has a secret");
    Ok(())
}

#[tokio::test]
async fn a_read_from_a_zone_that_is_removed_comes_to_its_end() -> Result<()> {
    let site = Site::start()?;
    // A body that stands still stays with its zone.
    let gateway = site.gateway(&json!({ "routing": { "stall": "1m" } })).await?;
    let image = pushed(&gateway, &[], 1, 3_000_000).await?;
    let layer = image.layers[0].digest;
    let held = site.zone("zone-a").proxy().hold("/sha256/", 1_000_000);
    let client = gateway.client(LOGIN)?;
    let pull = tokio::spawn(async move { client.pull_blob(REPOSITORY, &layer).await });
    held.await;
    without_zone(&site, &gateway, "zone-a")?;
    gateway.logged("configuration read again: applied, without a restart").await?;
    assert_eq!(names(&gateway).await?, ["zone-b", "zone-c"]);
    site.zone("zone-a").proxy().heal().await;
    let pulled = pull.await??;
    assert_eq!(pulled.size, image.layers[0].bytes()?.len() as u64);
    let status = pulled.cache_status.unwrap_or_default();
    assert!(status.contains("zone=zone-a"), "{status}");
    let metrics = gateway.metrics().await?;
    assert!(!metrics.contains("quay_gateway_zone_reads_total{zone=\"zone-a\"}"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn copies_for_a_zone_that_is_removed_wait_until_it_comes_back() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let zone = site.zone("zone-c");
    zone.proxy().down().await;
    let image = pushed(&gateway, &[], 1, 40_000).await?;
    until_lane(&gateway, "zone-c", |lane| lane["waiting"] == 2).await?;
    without_zone(&site, &gateway, "zone-c")?;
    gateway.logged("the journal has copies for a zone that is not configured: they wait").await?;
    until_lane(&gateway, "zone-c", |lane| lane["configured"] == false && lane["waiting"] == 2).await?;
    // A push does not go there any more.
    pushed(&gateway, &[], 2, 40_000).await?;
    until_lane(&gateway, "zone-b", |lane| lane["waiting"] == 0).await?;
    until_lane(&gateway, "zone-c", |lane| lane["waiting"] == 2).await?;
    zone.proxy().heal().await;
    with_all_zones(&site, &gateway)?;
    until_lane(&gateway, "zone-c", |lane| lane["configured"] == true && lane["waiting"] == 0).await?;
    assert!(zone.has(&image.layers[0].digest) && zone.has(&image.config.digest));
    Ok(())
}

#[tokio::test]
async fn a_zone_with_wrong_keys_serves_as_soon_as_they_are_corrected() -> Result<()> {
    let (site, new) = two_and_one()?;
    let mut entry = new.quay_entry();
    entry[1]["secret_key"] = json!("wrong-and-never-shown");
    let config = |entry: &serde_json::Value| {
        // Only the new zone is read, if it can be.
        let routing = json!({ "zones": { "zone-a": { "drain": true }, "zone-b": { "drain": true } } });
        let config = json!({ "home": "zone-new", "zones": { "zone-new": entry }, "routing": routing });
        site.gateway_config(&config)
    };
    let gateway = site.gateway(&config(&entry)).await?;
    let serves = |zone: &str, yes: u8| format!("quay_gateway_zone_serves{{zone=\"{zone}\"}} {yes}");
    until_measured(&gateway, &serves("zone-new", 0)).await?;
    gateway.configure(&config(&new.quay_entry()))?;
    gateway.logged("zones.zone-new.secret_key").await?;
    until_measured(&gateway, &serves("zone-new", 1)).await?;
    let image = pushed(&gateway, &[&new], 1, 40_000).await?;
    let pulled = gateway.client(LOGIN)?.pull_blob(REPOSITORY, &image.layers[0].digest).await?;
    let status = pulled.cache_status.unwrap_or_default();
    assert!(status.contains("zone=zone-new"), "{status}");
    let log = gateway.log();
    assert!(!log.contains("wrong-and-never-shown") && !log.contains(&new.secret_key), "{log}");
    Ok(())
}
