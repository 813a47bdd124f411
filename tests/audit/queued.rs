//! The queue for operators, and the question whether a zone may be retired.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, Site};
use serde_json::{Value, json};

use super::support::{command, everywhere};

/// The timeout for copies and samples on this machine.
const SOON: Duration = Duration::from_secs(60);

async fn queue(gateway: &Gateway, arguments: &[&str]) -> Result<Value> {
    let ended = command(gateway, &[&["queue"], arguments, &["--output", "json"]]).await?;
    ensure!(ended.status == Some(0), "{ended:?}");
    ended.json()
}

async fn zone(gateway: &Gateway, name: &str) -> Result<Value> {
    let report = queue(gateway, &[]).await?;
    let zones = report["zones"].as_array().context("zones")?;
    zones.iter().find(|zone| zone["zone"] == name).cloned().context("the zone")
}

async fn until(gateway: &Gateway, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let zone = zone(gateway, name).await?;
        if wanted(&zone) {
            return Ok(zone);
        }
        ensure!(Instant::now() < deadline, "{zone:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_measured(gateway: &Gateway, holds: impl Fn(&str) -> bool) -> Result<String> {
    let url = format!("http://{}/metrics", gateway.admin_address());
    let deadline = Instant::now() + SOON;
    loop {
        let asked = harness::http_client()?.get(&url).header("accept", "application/openmetrics-text");
        let text = asked.send().await?.text().await?;
        if text.lines().any(&holds) {
            return Ok(text);
        }
        ensure!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Pushes while zone-b is dead, so that copies into it are queued.
async fn pushed_without_zone_b(site: &Site, gateway: &Gateway) -> Result<[Digest; 2]> {
    site.zone("zone-b").proxy().down().await;
    let image = Spec::layers(1, &[40_000]).build()?;
    gateway.client(LOGIN)?.push("admin/app", "v1", &image).await?;
    Ok([image.layers[0].digest, image.config.digest])
}

#[tokio::test]
async fn the_queue_of_a_dead_zone_is_shown_parked_and_retried() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let [layer, config] = pushed_without_zone_b(&site, &gateway).await?;
    let b = until(&gateway, "zone-b", |zone| zone["waiting"] == 2 && zone["failing"] != 0).await?;
    assert!(b["last_error"].as_str().is_some_and(|error| error.contains("zone-b")), "{b:#}");
    until(&gateway, "zone-c", |zone| zone["waiting"] == 0).await?;
    let a = until(&gateway, "zone-a", |zone| zone["waiting"] == 0).await?;
    assert_eq!(a["at_risk_blobs"], 0, "zone-c has the blobs too");
    let shown = command(&gateway, &[&["queue"]]).await?;
    ensure!(shown.stdout.contains("zone zone-b: last error: "), "{shown:?}");

    let listed = queue(&gateway, &["ls", "--zone", "zone-b"]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed:#}");
    let one = queue(&gateway, &["ls", "--zone", "zone-b", "--limit", "1"]).await?;
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    let text = layer.to_string();
    let why = command(&gateway, &[&["queue", "why", &text]]).await?;
    ensure!(why.stdout.contains("zone-b: ") && why.stdout.contains("seen in      admin/app"), "{why:?}");

    let parked = command(&gateway, &[&["queue", "park", &text, "--reason", "upstream is wrong"]]).await?;
    ensure!(parked.stdout.contains("1 jobs are parked"), "{parked:?}");
    let listed = queue(&gateway, &["ls", "--state", "parked"]).await?;
    assert_eq!((&listed[0]["digest"], &listed[0]["zone"]), (&json!(text), &json!("zone-b")));
    assert_eq!(listed[0]["error"], "by command: upstream is wrong");
    site.zone("zone-b").proxy().heal().await;
    until(&gateway, "zone-b", |zone| zone["waiting"] == 0 && zone["parked"] == 1).await?;
    assert!(site.zone("zone-b").has(&config) && !site.zone("zone-b").has(&layer));
    let retried = command(&gateway, &[&["queue", "retry", "--parked"]]).await?;
    ensure!(retried.stdout.contains("1 jobs are due now"), "{retried:?}");
    until(&gateway, "zone-b", |zone| zone["waiting"] == 0 && zone["parked"] == 0).await?;
    assert!(site.zone("zone-b").has(&layer));
    let why = command(&gateway, &[&["queue", "why", &text]]).await?;
    ensure!(why.stdout.contains("no copy of"), "{why:?}");
    let unknown = command(&gateway, &[&["queue", "retry", "--parked", "--zone", "zone-x"]]).await?;
    ensure!(unknown.status == Some(1) && unknown.stderr.contains("there is no zone zone-x"), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn metrics_show_lag_risk_and_copy_times() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    site.zone("zone-c").proxy().down().await;
    let [layer, config] = pushed_without_zone_b(&site, &gateway).await?;
    let bytes: usize =
        [layer, config].iter().map(|digest| site.zone("zone-a").read(digest).map_or(0, |b| b.len())).sum();
    let risk = format!("quay_gateway_zone_at_risk_bytes{{zone=\"zone-a\"}} {bytes}");
    let text = until_measured(&gateway, |line| line == risk).await?;
    for line in [
        "quay_gateway_journal_readable 1",
        "quay_gateway_zone_copies_waiting{zone=\"zone-b\"} 2",
        "quay_gateway_zone_copies_parked{zone=\"zone-b\"} 0",
        "quay_gateway_zone_at_risk_blobs{zone=\"zone-b\"} 0",
        "quay_gateway_zone_copies_waiting_age_seconds_bucket{zone=\"zone-c\",le=\"+Inf\"} 2",
    ] {
        ensure!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    until_measured(&gateway, |line| {
        line.starts_with("quay_gateway_zone_copy_failures_total{zone=\"zone-b\",fault=\"target\"")
    })
    .await?;
    until_measured(&gateway, |line| {
        line.strip_prefix("quay_gateway_zone_lag_seconds{zone=\"zone-b\"} ")
            .and_then(|lag| lag.parse::<f64>().ok())
            .is_some_and(|lag| lag > 0.0)
    })
    .await?;
    for zone in ["zone-b", "zone-c"] {
        site.zone(zone).proxy().heal().await;
    }
    until_measured(&gateway, |line| line == "quay_gateway_zone_copy_seconds_count{zone=\"zone-c\"} 2")
        .await?;
    let text = until_measured(&gateway, |line| line == "quay_gateway_zone_copies_waiting{zone=\"zone-b\"} 0")
        .await?;
    ensure!(
        text.ends_with("# EOF\n") && text.contains("quay_gateway_zone_at_risk_bytes{zone=\"zone-a\"} 0"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_zone_may_be_retired_only_if_everything_is_in_other_zones() -> Result<()> {
    let site = Site::start()?;
    let digests = (0..4).map(|seed| everywhere(&site, seed, 100)).collect::<Result<Vec<_>>>()?;
    let gateway = site.gateway(&json!({})).await?;
    // Blobs that the zone lacks do not matter.
    site.zone("zone-b").delete(&digests[0])?;
    let yes = command(&gateway, &[&["zones", "retire", "zone-b"]]).await?;
    ensure!(
        yes.status == Some(0)
            && yes.stdout.starts_with("yes: everything in zone-b is also in zone-a, zone-c"),
        "{yes:?}"
    );
    site.zone("zone-a").delete(&digests[1])?;
    site.zone("zone-c").truncate(&digests[2], 10)?;
    let no = command(&gateway, &[&["zones", "retire", "zone-b"]]).await?;
    ensure!(
        no.status == Some(3) && no.stdout.contains(&format!("{}  missing in zone-a", digests[1])),
        "{no:?}"
    );
    ensure!(no.stdout.contains(&format!("{}  zone-a: 100 bytes", digests[2])), "{no:?}");
    ensure!(no.stdout.contains("no: 2 copies of blobs in zone-b"), "{no:?}");
    let no = command(&gateway, &[&["zones", "retire", "zone-b", "--quiet", "--output", "json"]]).await?;
    let report = no.json()?;
    ensure!(no.status == Some(3) && report["allowed"] == false, "{no:?}");
    ensure!(report["only_here"]["objects"] == 2 && report["examples"][0]["name"].is_string(), "{report:#}");
    assert!(site.zone("zone-b").has(&digests[1]), "nothing is deleted");
    let healed = command(&gateway, &[&["heal", "--min-age", "0s"]]).await?;
    ensure!(healed.status == Some(0), "{healed:?}");
    for zone in ["zone-a", "zone-b", "zone-c"] {
        until(&gateway, zone, |zone| zone["waiting"] == 0).await?;
    }
    // Objects that are not blobs are never copied.
    let root = site.zone("zone-b").path(&digests[1]).ancestors().nth(3).context("the root")?.to_owned();
    std::fs::create_dir_all(root.join("userfiles"))?;
    std::fs::write(root.join("userfiles/context"), "x")?;
    let no = command(&gateway, &[&["zones", "retire", "zone-b"]]).await?;
    ensure!(
        no.status == Some(3) && no.stdout.contains("1 objects below userfiles/, 1 B, are only in zone-b"),
        "{no:?}"
    );
    std::fs::remove_dir_all(root.join("userfiles"))?;
    let yes = command(&gateway, &[&["zones", "retire", "zone-b"]]).await?;
    ensure!(yes.status == Some(0) && yes.stdout.contains("4 blobs in zone-b were compared"), "{yes:?}");
    // Pending copies into the zone prevent its retirement.
    let [layer, _] = pushed_without_zone_b(&site, &gateway).await?;
    until(&gateway, "zone-b", |zone| zone["waiting"] != 0).await?;
    let text = layer.to_string();
    command(&gateway, &[&["queue", "park", &text, "--reason", "to be told"]]).await?;
    site.zone("zone-b").proxy().heal().await;
    until(&gateway, "zone-b", |zone| zone["waiting"] == 0).await?;
    let no = command(&gateway, &[&["zones", "retire", "zone-b"]]).await?;
    ensure!(
        no.status == Some(3) && no.stdout.contains("1 copies into it are pending, 1 of them parked"),
        "{no:?}"
    );
    Ok(())
}
