//! Certificates are replaced while the gateway runs.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use harness::certs::client_config;
use harness::image::Spec;
use harness::site::LOGIN;
use http::StatusCode;
use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{Fixture, Mount, SOON, ask, connect, leaf, leaf_for, measured};

const REPOSITORY: &str = "admin/one";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A Secret is replaced in the middle of an answer, of which the client has read only the head.
#[tokio::test]
async fn a_swap_of_the_secret_drops_no_connection_and_is_seen_by_the_next_one() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let roots = fixture.authority.pem();
    let mut idle = connect(&fixture.gateway, client_config(&[&roots])?, "localhost").await?;
    assert!(ask(&mut idle).await?.starts_with("HTTP/1.1 401"));

    let image = Spec::layers(1, &[20_000_000]).build()?;
    let client = harness::client::Client::new(&fixture.gateway.url(), &[&roots], LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    let token = fixture.site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let url = format!("{}/v2/{REPOSITORY}/blobs/{}", fixture.gateway.url(), image.layers[0].digest);
    let tls = client_config(&[&roots])?;
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
    let answer = http.get(url).bearer_auth(token).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);

    let second = fixture.authority.certificate(&["second.example.com"])?;
    fixture.mount.swap(&second.chain, &second.key)?;
    fixture.until_seen(&second).await?;

    assert_eq!(answer.bytes().await?, image.layers[0].bytes()?, "the answer came to its end");
    assert!(ask(&mut idle).await?.starts_with("HTTP/1.1 401"), "the idle connection is open");
    let chain = idle.get_ref().1.peer_certificates().context("no certificate")?;
    assert_eq!(chain[0].to_vec(), leaf(&fixture.first)?, "it keeps its certificate");
    fixture.gateway.logged("a new certificate is used for new connections").await?;
    assert_eq!(measured(&fixture.gateway, "certificate_reloads_total{outcome=\"loaded\"}").await?, "1");
    // Once more: the watch has followed the new folder.
    fixture.mount.swap(&fixture.first.chain, &fixture.first.key)?;
    fixture.until_seen(&fixture.first).await
}

#[tokio::test]
async fn a_bad_pair_is_refused_logged_and_counted_and_the_old_one_stays() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (second, third) = (fixture.authority.certificate(&[])?, fixture.authority.certificate(&[])?);
    fixture.mount.swap(&second.chain, &third.key)?;
    fixture.gateway.logged("a new certificate is refused: the one before it stays in use").await?;
    let log = fixture.gateway.log();
    assert!(log.contains("does not belong to the certificate in"), "{log}");
    let key_line = third.key.lines().nth(1).context("a key")?;
    assert!(!log.contains(key_line), "the log has a part of the key");
    assert_eq!(fixture.seen().await?, leaf(&fixture.first)?);
    assert_eq!(measured(&fixture.gateway, "certificate_reloads_total{outcome=\"refused\"}").await?, "1");

    fixture.mount.swap(&second.chain, &second.key)?;
    fixture.until_seen(&second).await?;
    assert_eq!(measured(&fixture.gateway, "certificate_reloads_total{outcome=\"loaded\"}").await?, "1");
    assert_eq!(measured(&fixture.gateway, "certificate_reloads_total{outcome=\"refused\"}").await?, "1");
    Ok(())
}

/// A program that copies the two files one after the other, again and again. A client that got the certificate of one
/// pair and the key of another would end its handshake with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_swapped_pair_is_never_served() -> Result<()> {
    let fixture = Fixture::start().await?;
    // Files, not links.
    for name in ["tls.crt", "tls.key"] {
        let text = fs::read(fixture.mount.at(name))?;
        fs::remove_file(fixture.mount.at(name))?;
        fs::write(fixture.mount.at(name), text)?;
    }
    let pairs = [fixture.authority.certificate(&["second.example.com"])?, fixture.first.clone()];
    let known = [leaf(&pairs[0])?, leaf(&pairs[1])?];
    for (round, pair) in pairs.iter().cycle().take(4).enumerate() {
        fs::write(fixture.mount.at("tls.crt"), &pair.chain)?;
        let (read, deadline) = ("a new certificate cannot be used yet", Instant::now() + SOON);
        while fixture.gateway.log().matches(read).count() <= round {
            assert!(known.contains(&fixture.seen().await?));
            ensure!(Instant::now() < deadline, "the files are not read: {}", fixture.gateway.log());
        }
        assert!(known.contains(&fixture.seen().await?));
        fs::write(fixture.mount.at("tls.key"), &pair.key)?;
        fixture.until_seen(pair).await?;
    }
    assert_eq!(measured(&fixture.gateway, "certificate_reloads_total{outcome=\"refused\"}").await?, "0");
    Ok(())
}

/// The files change in a way that inotify is not asked about, and the poll is far away. Just after its start, the gateway
/// may read them once more by itself: then they change again.
#[tokio::test]
async fn sighup_reads_the_certificates_again() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut files = Vec::new();
    for name in ["tls.crt", "tls.key"] {
        // They stay open, because inotify notices that a file is closed.
        files.push(OpenOptions::new().write(true).open(fixture.mount.at(name))?);
    }
    let mut served = fixture.first.clone();
    let unread = loop {
        let next = fixture.authority.certificate(&[])?;
        for (file, text) in files.iter_mut().zip([&next.chain, &next.key]) {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())?;
        }
        if fixture.seen().await? == leaf(&served)? {
            break next;
        }
        served = next;
    };
    fixture.gateway.signal(Signal::HUP)?;
    fixture.until_seen(&unread).await?;
    fixture.gateway.logged("configuration read again").await
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_reported_at_start_and_measured() -> Result<()> {
    let authority = harness::certs::Authority::generate()?;
    let soon = authority.certificate_until(&["localhost"], SystemTime::now() + DAY * 10 + DAY / 2)?;
    let mut mount = Mount::new(&soon)?;
    let site = harness::site::Site::start()?;
    let gateway = site.gateway(&mount.config()).await?;
    gateway.logged("a certificate expires soon: renew it").await?;
    let file = mount.at("tls.crt");
    let series = format!(
        "certificate_expiry_timestamp_seconds{{certificate=\"localhost\",file=\"{}\"}}",
        file.display()
    );
    let expires: u64 = measured(&gateway, &series).await?.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    assert!((10 * 24 * 3600..11 * 24 * 3600).contains(&(expires - now)), "{expires} {now}");
    assert!(!gateway.log().contains("no certificate covers a configured hostname"));

    let check = gateway.command(&["check", "--output", "json"]).await?;
    let report: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("tls.crt expires in 10 days: renew it"), "{report:#}");
    assert_eq!(report["certificate"]["ok"], true, "{report:#}");

    // Another one that has expired already does not replace it.
    let expired = authority.certificate_until(&["localhost"], SystemTime::now() - DAY)?;
    mount.swap(&expired.chain, &expired.key)?;
    gateway.logged("has expired: renew it").await?;
    assert_eq!(leaf_for(&gateway, &authority, "localhost").await?, leaf(&soon)?);
    let check = gateway.command(&["check", "--output", "json"]).await?;
    let report: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    assert!(!check.status.success() && report["certificate"]["ok"] == false, "{report:#}");
    let other = authority.certificate_until(&["other.example.com"], SystemTime::now() + DAY * 100)?;
    mount.swap(&other.chain, &other.key)?;
    let check = gateway.command(&["check", "--output", "json"]).await?;
    let report: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    let failed = report["certificate"].to_string();
    assert!(!check.status.success(), "{report:#}");
    assert!(
        failed.contains("no certificate is for localhost") && failed.contains("other.example.com"),
        "{failed}"
    );
    gateway.logged("no certificate covers a configured hostname").await
}
