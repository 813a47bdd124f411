//! Gateways that share a journal in a real PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::certs::Authority;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::port::{BlackHole, Port};
use harness::site::{LOGIN, Site};
use real_servers::{POSTGRES_PASSWORD, Postgres};
use serde_json::json;

const REPOSITORY: &str = "admin/one";

/// Waits until every zone has every blob of the image.
async fn copied(site: &Site, image: &Image) -> Result<()> {
    for blob in image.blobs() {
        for attempt in 0.. {
            if site.zones.iter().all(|zone| zone.has(&blob.digest)) {
                break;
            }
            ensure!(attempt < 2400, "{} never came", blob.digest);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_journal_over_tls_without_the_password_in_any_output() -> Result<()> {
    let authority = Authority::generate()?;
    let postgres = Postgres::start(Some(&authority)).await?;
    let site = Site::start()?;
    let url = postgres.tls_url();
    let root = authority.pem();
    let config = json!({"journal": {"url_file": "url"}, "ca": "ca.pem"});
    let gateway = site.gateway_with(&config, &[("url", &url), ("ca.pem", &root)]).await?;
    let image = Spec::layers(1, &[10_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, &image).await?;

    let checked = gateway.command(&["check"]).await?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(checked.status.success() && said.contains("TLS, verified"), "{said}");
    let shown = gateway.command(&["check-config"]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("as quay, TLS, verified, shared"), "{shown}");

    // The root is not trusted, so no password is sent.
    let stranger = Authority::generate()?.pem();
    std::fs::write(gateway.dir().join("ca.pem"), stranger)?;
    let refused = gateway.command(&["check", "--output", "json"]).await?;
    let refused_said = String::from_utf8_lossy(&refused.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_str(&refused_said)?;
    ensure!(!refused.status.success() && report["journal"]["ok"] == false, "{refused_said}");
    let error = report["journal"]["steps"][0]["error"].as_str().unwrap_or_default().to_lowercase();
    ensure!(error.contains("certificate"), "{error}");
    for text in [said, shown, refused_said, gateway.log()] {
        ensure!(!text.contains(POSTGRES_PASSWORD), "the password is in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_ends_the_start_with_a_clear_error() -> Result<()> {
    let postgres = Postgres::start(None).await?;
    let site = Site::start()?;
    let url = postgres.url().replace(POSTGRES_PASSWORD, "battery-staple");
    let error = format!("{:#}", site.gateway(&json!({ "journal": url })).await.expect_err("ends"));
    ensure!(error.contains("password authentication failed") && !error.contains("battery"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_push_while_the_database_is_unreachable_is_answered_and_logged() -> Result<()> {
    let mut postgres = Postgres::start(None).await?;
    let site = Site::start()?;
    let journal = json!({ "journal": postgres.url() });
    let gateways = [site.gateway(&journal).await?, site.gateway(&journal).await?];
    let client = gateways[0].client(LOGIN)?;
    postgres.crash();
    let image = Spec::layers(1, &[10_000]).build()?;
    client.push(REPOSITORY, "v1", &image).await?;
    gateways[0].logged("THE JOURNAL CANNOT BE WRITTEN").await?;
    ensure!(gateways[0].status().await?["copies"].is_null());
    ensure!(readiness(&gateways[0]).await? == (200, true) && readiness(&gateways[1]).await? == (200, false));
    postgres.restart().await?;
    // The journal does not contain the push, as the log says. A new push is recorded.
    gateways[1].client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, &image).await?;
    client.push_manifest(REPOSITORY, "v1", &image.manifest).await?;
    ensure!(readiness(&gateways[0]).await? == (200, false));
    Ok(())
}

/// The status of `/readyz`, and whether it mentions the journal.
async fn readiness(gateway: &Gateway) -> Result<(u16, bool)> {
    let url = format!("http://{}/readyz", gateway.admin_address());
    let answer = harness::http_client()?.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?.contains("the journal takes no jobs")))
}

#[tokio::test]
async fn an_unreachable_host_does_not_block_the_next_one() -> Result<()> {
    let authority = Authority::generate()?;
    let postgres = Postgres::start(Some(&authority)).await?;
    let site = Site::start()?;
    let hole = Port::free()?;
    let _hole = BlackHole::at(hole.address()).await?;
    let url = postgres.tls_url().replace("@localhost:", &format!("@{},localhost:", hole.address()));
    ensure!(url.contains(','), "two hosts");
    let root = authority.pem();
    let config = json!({"journal": {"url_file": "url"}, "ca": "ca.pem"});
    let gateway = site.gateway_with(&config, &[("url", &url), ("ca.pem", &root)]).await?;
    for attempt in 0.. {
        if gateway.status().await?["copies"].is_array() {
            break;
        }
        ensure!(attempt < 1200, "the journal did not become ready");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let image = Spec::layers(1, &[10_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, &image).await
}
