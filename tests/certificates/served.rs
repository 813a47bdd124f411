//! Which certificate a client gets.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use harness::certs::Authority;
use harness::site::Site;
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{connect, leaf};

/// One host has an EC certificate, and an RSA certificate for clients that know nothing newer.
#[tokio::test]
async fn an_old_client_gets_the_certificate_with_rsa() -> Result<()> {
    let dir = crate::commands::issued()?;
    let at = |name: &str| dir.path().join(name);
    let more = json!([{ "certificate": at("rsa-2048/tls.crt"), "key": at("rsa-2048/tls.key") }]);
    let tls = json!({ "certificate": at("ec-p256/tls.crt"), "key": at("ec-p256/tls.key"), "more": more });
    let site = Site::start()?;
    let gateway = site.gateway(&json!({ "tls": tls })).await?;
    for (algorithms, wanted) in [
        ("ECDSA+SHA256:RSA-PSS+SHA256", "Peer signature type: ECDSA"),
        ("RSA-PSS+SHA256", "Peer signature type: RSA-PSS"),
    ] {
        let address = gateway.hostname();
        let arguments = ["s_client", "-connect", &address, "-CAfile", "ca/ca.crt", "-verify_return_error"];
        let arguments = [&arguments[..], &["-sigalgs", algorithms]].concat();
        let text = crate::commands::openssl(dir.path(), &arguments).await?;
        assert!(text.contains(wanted), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_gets_the_certificate_for_the_host_that_it_names() -> Result<()> {
    let (authority, dir) = (Authority::generate()?, TempDir::new()?);
    let end = SystemTime::now() + Duration::from_secs(100 * 24 * 3600);
    let [first, second, wild] = [
        authority.certificate_until(&["localhost", "127.0.0.1"], end)?,
        authority.certificate_until(&["registry.example.com"], end)?,
        authority.certificate_until(&["*.apps.example.com"], end)?,
    ];
    let mut pairs = Vec::new();
    for (name, pair) in [("first", &first), ("second", &second), ("wild", &wild)] {
        let at = |end: &str| dir.path().join(format!("{name}.{end}"));
        pair.write(&at("crt"), &at("key"))?;
        pairs.push(json!({ "certificate": at("crt"), "key": at("key") }));
    }
    let site = Site::start()?;
    let tls = json!({ "certificate": pairs[0]["certificate"], "key": pairs[0]["key"], "more": pairs[1..] });
    let gateway = site.gateway(&json!({ "tls": tls })).await?;
    for (name, wanted) in [
        ("localhost", &first),
        ("registry.example.com", &second),
        ("REGISTRY.example.com", &second),
        ("a.apps.example.com", &wild),
        // A client sends no address as its server name.
        ("127.0.0.1", &first),
    ] {
        let seen = crate::fixture::leaf_for(&gateway, &authority, name).await?;
        assert_eq!(seen, leaf(wanted)?, "{name}");
    }
    for name in ["unknown.example.com", "a.b.apps.example.com"] {
        let config = harness::certs::client_config(&[&authority.pem()])?;
        let error = connect(&gateway, config, name).await.expect_err("it is for another host");
        let presented = format!("{error:#}");
        assert!(presented.contains("localhost"), "{name} gets the first certificate: {presented}");
    }
    let metrics = gateway.metrics().await?;
    assert_eq!(
        metrics.lines().filter(|line| line.contains("certificate_expiry_timestamp_seconds{")).count(),
        3
    );
    Ok(())
}
