//! Clients must show a certificate.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::certs::{Authority, Certificate, client_config, client_config_with};
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, PASSWORD, Site, USER};
use real_servers::{Login, Skopeo};
use serde_json::json;

use crate::fixture::{SOON, ask, connect, measured};

/// Whether a client gets an answer. Over TLS 1.3, it learns only after its handshake that it is refused.
async fn is_served(gateway: &Gateway, config: rustls::ClientConfig) -> bool {
    match connect(gateway, config, "localhost").await {
        Ok(mut stream) => ask(&mut stream).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 401")),
        Err(_) => false,
    }
}

fn with(authority: &Authority, certificate: &Certificate, version: usize) -> Result<rustls::ClientConfig> {
    let mut config = client_config_with(&[&authority.pem()], certificate)?;
    if version == 2 {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(config)
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_client_ca_even_to_resume_a_session() -> Result<()> {
    let (server, clients, others) = (Authority::generate()?, Authority::generate()?, Authority::generate()?);
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    server.certificate(&[])?.write(&at("tls.crt"), &at("tls.key"))?;
    fs::write(at("clients.crt"), clients.pem())?;
    let site = Site::start()?;
    let tls = json!({ "certificate": at("tls.crt"), "key": at("tls.key"), "client_ca": at("clients.crt") });
    let gateway = site.gateway(&json!({ "tls": tls })).await?;

    let (known, stranger) = (clients.client_certificate("edge-1")?, others.client_certificate("edge-1")?);
    assert!(!is_served(&gateway, client_config(&[&server.pem()])?).await, "no certificate");
    assert!(!is_served(&gateway, with(&server, &stranger, 1)?).await, "a certificate of another CA");
    let resuming = with(&server, &known, 1)?;
    assert!(is_served(&gateway, resuming.clone()).await);
    let resumed = {
        let mut stream = connect(&gateway, resuming.clone(), "localhost").await?;
        ensure!(ask(&mut stream).await?.starts_with("HTTP/1.1 401"));
        stream.get_ref().1.handshake_kind()
    };
    assert_eq!(resumed, Some(rustls::HandshakeKind::Resumed), "or the test shows nothing below");
    let series = "handshakes_failed_total{why=\"client_certificate\"}";
    assert!(measured(&gateway, series).await?.parse::<u64>()? >= 2);
    // The admin side needs none.
    assert!(gateway.metrics().await?.contains("quay_gateway_"));

    // The CA of clients is replaced: a session under the old one is worth nothing.
    fs::write(at("clients.crt"), others.pem())?;
    let deadline = Instant::now() + SOON;
    while !is_served(&gateway, with(&server, &stranger, 2)?).await {
        ensure!(Instant::now() < deadline, "the new CA is not used: {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_served(&gateway, resuming).await, "a session was resumed that the new CA refuses");
    Ok(())
}

/// The client's certificate is made as the book says.
#[tokio::test]
async fn skopeo_pulls_with_a_certificate_and_not_without() -> Result<()> {
    let dir = crate::commands::issued()?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("client.ext"), "extendedKeyUsage=clientAuth\n")?;
    for arguments in [
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=edge-1 -keyout client.key -out client.csr",
        "x509 -req -in client.csr -CA ca/ca.crt -CAkey ca/ca.key -days 365 -extfile client.ext -out client.cert",
    ] {
        crate::commands::openssl(dir.path(), &arguments.split(' ').collect::<Vec<_>>()).await?;
    }
    let tls = json!({
        "certificate": at("rsa-3072/tls.crt"), "key": at("rsa-3072/tls.key"), "client_ca": at("ca/ca.crt"),
    });
    let site = Site::start()?;
    let gateway = site.gateway(&json!({ "tls": tls })).await?;
    let image = Spec::layers(1, &[100_000]).build()?;
    let quay = harness::client::Client::new(&site.quay.url(), &[], LOGIN)?;
    quay.push("admin/one", "v1", &image).await?;

    let trusted = at("trusted");
    fs::create_dir(&trusted)?;
    fs::copy(at("ca/ca.crt"), trusted.join("ca.crt"))?;
    let skopeo = Skopeo { trusted: trusted.clone(), login: Some(Login::new(USER, PASSWORD)) };
    let reference = format!("{}/admin/one:v1", gateway.hostname());
    skopeo.pull(&reference, &at("pulled")).await.expect_err("it shows no certificate");
    for name in ["client.cert", "client.key"] {
        fs::copy(at(name), trusted.join(name))?;
    }
    skopeo.pull(&reference, &at("pulled")).await?;
    assert!(at("pulled/manifest.json").is_file());
    Ok(())
}
