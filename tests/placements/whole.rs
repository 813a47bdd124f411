//! The whole gateway: pushes, the placements that it writes, and the sweep.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::gateway::Gateway;
use harness::image::{Image, Manifest, Spec};
use harness::site::{LOGIN, PASSWORD, Site, USER};
use http::Method;
use serde_json::{Value, json};

use super::fixture::Fixture;

/// Waits until `is` returns `true`, at most 60 s.
async fn until(what: &str, is: impl AsyncFn() -> Result<bool>) -> Result<()> {
    for _ in 0..2400 {
        if is().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("never: {what}")
}

async fn metrics(gateway: &Gateway) -> Result<String> {
    let url = format!("http://{}/metrics", gateway.admin_address());
    Ok(harness::http_client()?.get(url).send().await?.error_for_status()?.text().await?)
}

fn in_zone(site: &Site, zone: &str, image: &Image) -> bool {
    image.blobs().iter().all(|blob| site.zone(zone).has(&blob.digest))
}

async fn started(fixture: &Fixture, over: &Value) -> Result<Gateway> {
    let mut gateway = fixture.prepared(over)?;
    gateway.spawn().await?;
    Ok(gateway)
}

#[tokio::test]
async fn a_push_is_placed_wherever_it_was_copied() -> Result<()> {
    let fixture = Fixture::start().await?;
    let gateway = started(&fixture, &json!({})).await?;
    let image = Spec::layers(1, &[300_000, 10]).build()?;
    let mut rows = Vec::new();
    for blob in image.blobs() {
        rows.push(fixture.tables.add_blob(&blob.digest, true).await?);
    }
    gateway.client(LOGIN)?.push("admin/one", "v1", &image).await?;
    for row in rows {
        until("placed", async || Ok(fixture.tables.locations(row).await? == ["zone-a", "zone-b", "zone-c"]))
            .await?;
    }
    // Copies of a blob that Quay no longer has stay where they are, in all zones: nothing is deleted.
    let gone = Spec::layers(2, &[50_000]).build()?;
    gateway.client(LOGIN)?.push("admin/two", "v1", &gone).await?;
    until("withdrawn", async || {
        let lanes = gateway.status().await?;
        let waiting =
            lanes["copies"].as_array().is_some_and(|lanes| lanes.iter().any(|lane| lane["waiting"] != 0));
        Ok(!waiting)
    })
    .await?;
    ensure!(
        in_zone(&fixture.site, "zone-a", &gone) && in_zone(&fixture.site, "zone-b", &gone),
        "the copies stay"
    );
    Ok(())
}

#[tokio::test]
async fn a_namespaces_own_location_gets_copies_too() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.tables.add_region("admin", "zone-c").await?;
    let mut quay: Value = fixture.site.quay.config();
    quay["DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] = json!(["zone-a", "zone-b"]);
    quay["FEATURE_STORAGE_REPLICATION"] = false.into();
    quay["USER_EVENTS_REDIS"] = fixture.redis.quay_entry();
    let (config, _) = fixture.config(&json!({}));
    let gateway =
        Gateway::start(&config, &[("quay.yaml", &quay.to_string()), ("password", PASSWORD)]).await?;
    for (repository, expected) in [("admin/one", true), ("other/one", false)] {
        fixture.site.quay.add_repository(repository, false);
        fixture.site.quay.grant(repository, USER, true);
        let image = Spec::layers(if expected { 1 } else { 2 }, &[1000]).build()?;
        for blob in image.blobs() {
            fixture.tables.add_blob(&blob.digest, true).await?;
        }
        gateway.client(LOGIN)?.push(repository, "v1", &image).await?;
        until("copied to zone-b", async || Ok(in_zone(&fixture.site, "zone-b", &image))).await?;
        if expected {
            until("copied to zone-c", async || Ok(in_zone(&fixture.site, "zone-c", &image))).await?;
        } else {
            ensure!(!in_zone(&fixture.site, "zone-c", &image), "{repository} has no location of its own");
        }
    }
    Ok(())
}

/// A configuration with an account and without a database.
fn account() -> Value {
    json!({"registry": {"account": {"username": USER, "password_file": "password"}}, "replication": {"sweep": {"enabled": false}}})
}

#[tokio::test]
async fn the_manifests_of_an_index_are_queued_with_it() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway_with(&account(), &[("password", PASSWORD)]).await?;
    // The images are pushed without the gateway. The index is pushed through it.
    let images = [Spec::layers(1, &[20_000]).build()?, Spec::layers(2, &[30_000]).build()?];
    let past = harness::client::Client::new(&site.quay.url(), &[], LOGIN)?;
    for image in &images {
        past.push("admin/multi", &image.manifest.digest.to_string(), image).await?;
    }
    let index = Manifest::index(&images);
    let through = gateway.client(LOGIN)?;
    through.push_manifest("admin/multi", "v1", &index).await?;
    for image in &images {
        until("copied", async || Ok(in_zone(&site, "zone-b", image) && in_zone(&site, "zone-c", image)))
            .await?;
    }
    // Manifests that were pushed through the gateway are not fetched again.
    let third = Spec::layers(3, &[100]).build()?;
    through.push("admin/multi", &third.manifest.digest.to_string(), &third).await?;
    let asked = || site.quay.record().count(&Method::GET, "/manifests/sha256:");
    let before = asked();
    through.push_manifest("admin/multi", "v2", &Manifest::index(&[third])).await?;
    ensure!(asked() == before, "the gateway fetched a manifest that it had queued itself");
    ensure!(!gateway.log().contains(PASSWORD));
    Ok(())
}

#[tokio::test]
async fn index_manifests_that_cannot_be_fetched_are_logged_and_counted() -> Result<()> {
    let site = Site::start()?;
    site.quay.add_user("stranger", "stranger-secret");
    let mut config = account();
    config["registry"]["account"]["username"] = "stranger".into();
    let gateway = site.gateway_with(&config, &[("password", "stranger-secret")]).await?;
    let images = [Spec::layers(1, &[20_000]).build()?];
    let past = harness::client::Client::new(&site.quay.url(), &[], LOGIN)?;
    past.push("admin/multi", &images[0].manifest.digest.to_string(), &images[0]).await?;
    gateway.client(LOGIN)?.push_manifest("admin/multi", "v1", &Manifest::index(&images)).await?;
    gateway.logged("could not be had in time").await?;
    let text = metrics(&gateway).await?;
    ensure!(text.contains("quay_gateway_pushes_not_queued_total 1"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_sweep_finds_unknown_blobs_and_continues_after_a_restart() -> Result<()> {
    let site = Site::start()?;
    let past = harness::client::Client::new(&site.quay.url(), &[], LOGIN)?;
    let mut images = Vec::new();
    // More repositories than fit on one page. One of them has an index.
    for at in 0..104 {
        let image = Spec::layers(at, &[100]).build()?;
        past.push(&format!("admin/r{at}"), "v1", &image).await?;
        images.push(image);
    }
    past.push("admin/r7", &images[8].manifest.digest.to_string(), &images[8]).await?;
    past.push_manifest("admin/r7", "index", &Manifest::index(&images[8..9])).await?;
    let logins = || site.quay.record().count(&Method::GET, "/v2/auth");
    let before = logins();
    let mut config = account();
    config["replication"]["sweep"] = json!({"every": "1s", "rate": 500});
    let mut gateway = site.gateway_with(&config, &[("password", PASSWORD)]).await?;
    let swept = |images: &[Image]| images.iter().all(|image| in_zone(&site, "zone-b", image));
    until("half of it", async || Ok(swept(&images[..1]))).await?;
    gateway.kill();
    gateway.spawn().await?;
    until("all of it", async || Ok(swept(&images))).await?;
    until("a round", async || Ok(gateway.log().contains("sweep finished"))).await?;
    // One login serves many repositories.
    let logins = logins() - before;
    ensure!(logins < 60, "{logins} logins for two walks through 104 repositories");
    // A blob that a store has lost is copied again in the next round.
    let lost = images[103].layers[0].digest;
    site.zone("zone-c").delete(&lost)?;
    until("made good", async || Ok(site.zone("zone-c").has(&lost))).await?;
    let text = metrics(&gateway).await?;
    ensure!(!text.contains("quay_gateway_sweep_finished_timestamp_seconds 0\n"), "{text}");
    Ok(())
}

#[tokio::test]
async fn without_a_database_nothing_is_copied_unless_orphans_are_accepted() -> Result<()> {
    let site = Site::start()?;
    let mut quay = site.quay.config();
    quay["FEATURE_STORAGE_REPLICATION"] = false.into();
    let quay = quay.to_string();
    let files = [("quay.yaml", quay.as_str())];
    let gateway = Gateway::start(&site.gateway_config(&json!({})), &files).await?;
    gateway.logged("so pushes are not copied").await?;
    let image = Spec::layers(1, &[1000]).build()?;
    gateway.client(LOGIN)?.push("admin/one", "v1", &image).await?;
    ensure!(gateway.status().await?["targets"] == json!([]));
    let word = json!({"replication": {"accept_orphans": true}});
    let gateway = Gateway::start(&site.gateway_config(&word), &files).await?;
    gateway.logged("replication.accept_orphans accepts that").await?;
    gateway.client(LOGIN)?.push("admin/one", "v2", &image).await?;
    until("copied", async || Ok(in_zone(&site, "zone-b", &image))).await
}

#[tokio::test]
async fn a_command_starts_a_round_of_the_sweep() -> Result<()> {
    let site = Site::start()?;
    let image = Spec::layers(1, &[100]).build()?;
    harness::client::Client::new(&site.quay.url(), &[], LOGIN)?.push("admin/one", "v1", &image).await?;
    let mut config = account();
    config["replication"]["sweep"] = json!({"every": "6h", "rate": 500});
    let gateway = site.gateway_with(&config, &[("password", PASSWORD)]).await?;
    let sweep = async |arguments: &[&str]| {
        let output = gateway.command(&[&["queue", "sweep"], arguments].concat()).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let before = sweep(&[]).await?;
    ensure!(before.starts_with("sweep "), "{before}");
    let after = sweep(&["--start", "--wait", "--output", "json"]).await?;
    let after: serde_json::Value = serde_json::from_str(&after)?;
    ensure!(after["enabled"] == true && after["rounds"].as_u64() >= Some(1), "{after:#}");
    until("copied", async || Ok(in_zone(&site, "zone-b", &image))).await?;
    let gateway = site.gateway(&json!({})).await?;
    let none = gateway.command(&["queue", "sweep", "--start"]).await?;
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    ensure!(!none.status.success() && said.contains("has no sweep"), "{said}");
    Ok(())
}
