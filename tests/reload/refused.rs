//! A configuration that is wrong changes nothing.

use anyhow::Result;
use harness::site::{LOGIN, Site};
use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{REPOSITORY, names, pushed, tag, until_measured};

const REFUSED: &str = "the configuration is refused: nothing was changed";

#[tokio::test]
async fn a_bad_file_changes_nothing_until_it_is_corrected() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let before = std::fs::read_to_string(gateway.config_file())?;
    std::fs::write(gateway.config_file(), "limits: {streams: 9}\nzones: hunter2\n")?;
    // Nobody asked, so the gateway first waits for the rest of a change.
    gateway.logged("the configuration cannot be used yet: it is read again in a moment").await?;
    gateway.logged(REFUSED).await?;
    until_measured(&gateway, "quay_gateway_config_reloads_total{result=\"refused\"} 1").await?;
    assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
    assert_eq!(names(&gateway).await?, ["zone-a", "zone-b", "zone-c"]);
    pushed(&gateway, &[], 1, 40_000).await?;
    gateway.client(LOGIN)?.pull(REPOSITORY, &tag(1)).await?;
    let output = gateway.command(&["config", "diff"]).await?;
    assert_eq!(output.status.code(), Some(78));

    std::fs::write(gateway.config_file(), before)?;
    gateway.signal(Signal::HUP)?;
    gateway.logged("configuration read again: nothing to apply").await
}

/// The keys can be read, but the certificates cannot be used, and this shows only when all is built.
#[tokio::test]
async fn a_configuration_that_cannot_be_built_changes_nothing() -> Result<()> {
    let site = Site::start()?;
    let gateway =
        site.gateway_with(&json!({}), &[("bad.crt", "no certificate"), ("bad.key", "no key")]).await?;
    let config = json!({
        "limits": { "connections": 100 },
        "tls": { "certificate": "bad.crt", "key": "bad.key" },
        "routing": { "zones": { "zone-a": { "drain": true } } },
    });
    gateway.configure(&site.gateway_config(&config))?;
    gateway.signal(Signal::HUP)?;
    gateway.logged(REFUSED).await?;
    let metrics = gateway.metrics().await?;
    for line in [
        "quay_gateway_pool_slots{pool=\"limits.connections\"} 4096",
        "quay_gateway_zone_state{zone=\"zone-a\",state=\"healthy\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    Ok(())
}
