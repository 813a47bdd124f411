//! `pins`: images that the gateway keeps in its cache by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::gateway::{Gateway, overlay};
use harness::site::LOGIN;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{REPOSITORY, account, parsed, text, with_index};

const BOUND: Duration = Duration::from_secs(20);

async fn pinned(gateway: &Gateway) -> Result<usize> {
    let listed = parsed(&gateway.command(&["cache", "ls", "--pinned", "--output", "json"]).await?)?;
    Ok(listed.as_array().map(Vec::len).unwrap_or_default())
}

/// Waits until a metric has a value.
async fn until(gateway: &Gateway, metric: &str, value: f64) -> Result<()> {
    let deadline = Instant::now() + BOUND;
    while gateway.metric(metric).await? != value {
        ensure!(Instant::now() < deadline, "{metric} is not {value}: {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn pins(pins: &Value) -> Value {
    json!({ "pins": pins })
}

#[tokio::test]
async fn pinned_images_are_kept_over_evictions_and_restarts_and_are_released_by_a_reload() -> Result<()> {
    let (site, mut gateway, images) =
        with_index(&pins(&json!([{ "images": ["admin/app:v1"], "rate": "50MiB" }]))).await?;
    until(&gateway, "quay_gateway_pins{state=\"complete\"}", 1.0).await?;
    gateway.logged("a pinned image is complete").await?;
    assert!(gateway.metric("quay_gateway_pins_complete_timestamp_seconds").await? > 1e9);
    assert!(gateway.metric("quay_gateway_cache_pinned_bytes").await? > 270_000.0);
    assert_eq!(pinned(&gateway).await?, 5);
    let digest = images[0].blobs()[1].digest.to_string();
    let one = gateway.command(&["cache", "evict", &digest]).await?;
    assert!(text(&one.stdout).contains("1 are pinned and stay"), "{}", text(&one.stdout));
    // A client finds it there, also after a restart without the registry and the stores.
    gateway.terminate().await?;
    for zone in &site.zones {
        zone.proxy().down().await;
    }
    site.quay.down().await;
    gateway.spawn().await?;
    assert_eq!(pinned(&gateway).await?, 5);
    site.quay.up().await;
    let pulled = gateway.client(LOGIN)?.pull(REPOSITORY, "amd64").await?;
    assert!(
        pulled.iter().all(|blob| blob.cache_status.as_deref() == Some("quay-gateway; hit")),
        "{pulled:?}"
    );
    // A reload releases what is not configured any more.
    let mut config = site.gateway_config(&account());
    gateway.configure(&config)?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "quay_gateway_cache_pinned_bytes", 0.0).await?;
    // And pins what is configured now.
    overlay(&mut config, &pins(&json!([{ "images": ["admin/app:v1"], "platforms": ["linux/arm64"] }])));
    gateway.configure(&config)?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "quay_gateway_pins{state=\"complete\"}", 1.0).await?;
    assert_eq!(pinned(&gateway).await?, images[1].blobs().len());
    Ok(())
}

#[tokio::test]
async fn pins_that_do_not_fit_or_are_not_there_are_told() -> Result<()> {
    let over = json!({
        "cache": { "size": "256KiB" },
        "pins": [{ "images": ["admin/app:v1"] }, { "images": ["admin/app:absent"] }],
    });
    let (_site, gateway, _) = with_index(&over).await?;
    until(&gateway, "quay_gateway_pins{state=\"failed\"}", 2.0).await?;
    gateway.logged("a pinned image is not complete").await?;
    let log = gateway.log();
    ensure!(log.contains("admin/app:absent") && log.contains("admin/app:v1"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_pin_outside_its_window_reads_nothing() -> Result<()> {
    // A window that begins in twelve hours.
    let hour = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() / 3600 + 12;
    let window = format!("{:02}:00-{:02}:00", hour % 24, (hour + 2) % 24);
    let over = pins(&json!([{ "images": ["admin/app:v1"], "window": window }]));
    let (_site, gateway, _) = with_index(&over).await?;
    until(&gateway, "quay_gateway_pins{state=\"pending\"}", 1.0).await?;
    assert_eq!(pinned(&gateway).await?, 0);
    Ok(())
}
