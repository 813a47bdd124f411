//! What an audit found is queued at a running gateway and copied.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use backends::Digest;
use harness::gateway::Gateway;
use harness::site::Site;
use http::StatusCode;
use serde_json::json;

use super::compared::prepared;
use super::support::{NOW, audited, command, everywhere, found};

/// The timeout for copies on this machine.
const SOON: Duration = Duration::from_secs(60);

async fn arrives(site: &Site, zone: &str, digests: &[Digest]) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !digests.iter().all(|digest| site.zone(zone).has(digest)) {
        ensure!(Instant::now() < deadline, "copies did not arrive in {zone}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Damages copies: zone-b lacks blobs, and zone-c also lacks one of them.
fn broken(site: &Site) -> Result<Vec<Digest>> {
    let digests = (0..5).map(|seed| everywhere(site, seed, 200)).collect::<Result<Vec<_>>>()?;
    for digest in &digests[..3] {
        site.zone("zone-b").delete(digest)?;
    }
    site.zone("zone-c").delete(&digests[0])?;
    // The object is shorter than in the other zones. The copy finds out which one is correct.
    site.zone("zone-c").truncate(&digests[4], 150)?;
    Ok(digests)
}

#[tokio::test]
async fn heal_queues_missing_and_wrong_blobs() -> Result<()> {
    let site = Site::start()?;
    let digests = broken(&site)?;
    let gateway = site.gateway(&json!({})).await?;
    let dry = command(&gateway, &[&["heal", "--dry-run"], &NOW]).await?;
    ensure!(dry.status == Some(0) && dry.stdout.contains("7 copies would be queued, 1.3 KiB"), "{dry:?}");
    assert!(!site.zone("zone-b").has(&digests[0]), "a dry run copies nothing");
    let healed = command(&gateway, &[&["heal", "--output", "json"], &NOW]).await?;
    assert_eq!(healed.json()?["queued"], 7, "{healed:?}");
    arrives(&site, "zone-b", &digests).await?;
    arrives(&site, "zone-c", &digests).await?;
    let deadline = Instant::now() + SOON;
    while site.zone("zone-c").read(&digests[4])?.len() != 200 {
        ensure!(Instant::now() < deadline, "the short object was not replaced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(&audited(&gateway, &["--deep", "100%"], 0).await?), []);
    // What was handled is not queued again. After an audit without findings nothing is queued.
    let again = command(&gateway, &[&["heal", "--findings"], &NOW]).await?;
    ensure!(again.status == Some(0) && again.stdout.contains("0 copies are queued"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn an_earlier_audit_is_healed_once() -> Result<()> {
    let site = Site::start()?;
    let digests = broken(&site)?;
    let gateway = site.gateway(&json!({})).await?;
    audited(&gateway, &[], 3).await?;
    let healed = command(&gateway, &[&["heal", "--findings"]]).await?;
    ensure!(healed.stdout.contains("7 copies are queued"), "{healed:?}");
    arrives(&site, "zone-b", &digests).await?;
    let again = command(&gateway, &[&["heal", "--findings"]]).await?;
    ensure!(again.stdout.contains("0 copies are queued; an earlier run queued 7"), "{again:?}");
    // If a file is named, it does not matter whether its findings were handled before.
    let file = gateway.dir().join("findings");
    std::fs::copy(gateway.dir().join("state/audit/findings.jsonl"), &file)?;
    let named = command(&gateway, &[&["heal", "--findings", &file.to_string_lossy()]]).await?;
    ensure!(named.stdout.contains("7 copies are queued"), "{named:?}");
    std::fs::write(&file, "{\"kind\":\"missing\"}\n")?;
    let spoilt = command(&gateway, &[&["heal", "--findings", &file.to_string_lossy()]]).await?;
    ensure!(spoilt.status == Some(1) && spoilt.stderr.contains("is not a file of findings"), "{spoilt:?}");
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_missing_again_is_queued_again() -> Result<()> {
    let site = Site::start()?;
    let digest = everywhere(&site, 1, 200)?;
    let gateway = site.gateway(&json!({})).await?;
    for _ in 0..2 {
        site.zone("zone-b").delete(&digest)?;
        let healed = command(&gateway, &[&["heal", "--output", "json"], &NOW]).await?;
        assert_eq!(healed.json()?["queued"], 1, "{healed:?}");
        arrives(&site, "zone-b", &[digest]).await?;
    }
    // A file of findings can also be used again.
    let file = gateway.dir().join("findings");
    std::fs::copy(gateway.dir().join("state/audit/findings.jsonl"), &file)?;
    for _ in 0..2 {
        let named = command(&gateway, &[&["heal", "--findings", &file.to_string_lossy()]]).await?;
        ensure!(named.status == Some(0) && named.stdout.contains("1 copies are queued."), "{named:?}");
    }
    Ok(())
}

#[tokio::test]
async fn findings_in_a_zone_without_copies_do_not_stop_others() -> Result<()> {
    let site = Site::start()?;
    let [first, second] = [everywhere(&site, 1, 200)?, everywhere(&site, 2, 200)?];
    site.zone("zone-b").delete(&first)?;
    site.zone("zone-c").truncate(&second, 0)?;
    let mut quay = site.quay.config();
    quay["DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] = json!(["zone-a", "zone-b"]);
    let config = site.gateway_config(&json!({}));
    let gateway = Gateway::start(&config, &[("quay.yaml", &quay.to_string())]).await?;
    let healed = command(&gateway, &[&["heal", "--output", "json"], &NOW]).await?;
    ensure!(healed.status == Some(3), "{healed:?}");
    let told = healed.json()?;
    assert_eq!((&told["queued"], &told["beyond"]), (&json!(1), &json!({"empty": 1})), "{told:#}");
    arrives(&site, "zone-b", &[first]).await?;
    let filled = command(&gateway, &[&["backfill", "zone-b", "--go"], &NOW]).await?;
    ensure!(filled.status == Some(0) && filled.stdout.starts_with("zone-b lacks 0 blobs, 0 B"), "{filled:?}");
    // An inventory that was interrupted is incomplete.
    let file = gateway.dir().join("state/audit/checkpoint.json");
    let cut = std::fs::read_to_string(&file)?.replace("\"done\": true", "\"done\": false");
    std::fs::write(&file, cut)?;
    let refused = command(&gateway, &[&["heal", "--findings"]]).await?;
    ensure!(refused.status == Some(1) && refused.stderr.contains("was interrupted"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_missing_gateway_is_reported() -> Result<()> {
    let site = Site::start()?;
    broken(&site)?;
    let gateway = prepared(&site)?;
    let silent = command(&gateway, &[&["heal"], &NOW]).await?;
    ensure!(silent.status == Some(1) && silent.stderr.contains("no gateway answers at"), "{silent:?}");
    assert!(!gateway.dir().join("state/audit").exists(), "the missing gateway is reported before the audit");
    Ok(())
}

/// More than one portion is queued for a zone that accepts nothing for a while.
#[tokio::test]
async fn heal_waits_while_the_queue_is_full() -> Result<()> {
    let site = Site::start()?;
    let digests = (0..30).map(|seed| everywhere(&site, seed, 20)).collect::<Result<Vec<_>>>()?;
    digests.iter().try_for_each(|digest| site.zone("zone-b").delete(digest))?;
    let gateway = site.gateway(&json!({})).await?;
    audited(&gateway, &[], 3).await?;
    site.zone("zone-b").proxy().down().await;
    let first = command(&gateway, &[&["heal", "--findings"]]).await?;
    ensure!(first.stdout.contains("30 copies are queued"), "{first:?}");
    // The findings are queued again, as if the first request had been lost. The queue is full.
    std::fs::remove_file(gateway.dir().join("state/audit/findings.jsonl.queued"))?;
    let mut waits =
        gateway.start_command(&["heal", "--findings", "--backlog", "10"], std::process::Stdio::null())?;
    let url = format!("http://{}/queue/add", gateway.admin_address());
    let add =
        json!({"backlog": 10, "jobs": [{"digest": digests[0].to_string(), "zone": "zone-b", "size": null}]});
    let post = || harness::http_client().map(|client| client.post(&url).header("quay-gateway-command", "1"));
    let refused = post()?.body(add.to_string()).send().await?;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    ensure!(waits.try_wait()?.is_none(), "heal does not wait");
    site.zone("zone-b").proxy().heal().await;
    ensure!(tokio::time::timeout(SOON, waits.wait()).await??.success(), "it failed");
    arrives(&site, "zone-b", &digests).await
}

#[tokio::test]
async fn the_admin_api_refuses_unknown_requests() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let client = harness::http_client()?;
    let url = format!("http://{}/queue/add", gateway.admin_address());
    let digest = Digest::EMPTY.to_string();
    let job = |digest: &str, zone: &str| json!({"digest": digest, "zone": zone, "size": 0});
    let many = vec![job(&digest, "zone-a"); 1001];
    for (body, status) in [
        (json!({"backlog": 1, "jobs": [job("sha256:0", "zone-a")]}).to_string(), StatusCode::BAD_REQUEST),
        (json!({"backlog": 1, "jobs": [job(&digest, "zone-x")]}).to_string(), StatusCode::NOT_FOUND),
        (json!({"backlog": 1, "jobs": many}).to_string(), StatusCode::PAYLOAD_TOO_LARGE),
        ("{".to_owned(), StatusCode::BAD_REQUEST),
        (" ".repeat(300 * 1024), StatusCode::PAYLOAD_TOO_LARGE),
        (json!({"backlog": 1, "jobs": [job(&digest, "zone-a")]}).to_string(), StatusCode::OK),
    ] {
        let sent = client.post(&url).header("quay-gateway-command", "1").body(body.clone()).send().await?;
        assert_eq!(sent.status(), status, "{:.200}", body);
    }
    // A web page in a browser on this machine could send this request.
    assert_eq!(client.post(&url).body("{}").send().await?.status(), StatusCode::FORBIDDEN);
    Ok(())
}
