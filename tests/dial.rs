//! Hosts with several addresses, of which the first is unreachable.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::image::Spec;
use harness::port::BlackHole;
use harness::site::{LOGIN, Site};
use serde_json::json;

/// Set in the process in which the host name is known.
const INSIDE: &str = "QUAY_GATEWAY_TESTS_HOSTS";

/// `two.test` is ::1 and 127.0.0.1. The resolver prefers ::1 (RFC 6724).
const HOSTS: &str = "127.0.0.1 localhost\n::1 two.test\n127.0.0.1 two.test\n";

const REPOSITORY: &str = "admin/one";

/// Runs the test `name` with another `/etc/hosts`: this process starts itself again in its own mount
/// namespace, which needs root.
fn with_hosts<F: Future<Output = Result<()>>>(name: &str, run: impl FnOnce() -> F) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run());
    }
    let hosts = tempfile::NamedTempFile::new()?;
    std::fs::write(hosts.path(), HOSTS)?;
    let status = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"", "sh"])
        .arg(hosts.path())
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .context("cannot run unshare")?;
    ensure!(status.success(), "in a mount namespace (run as root): {status}");
    Ok(())
}

/// The same port of `::1`, where packets are dropped.
async fn hole(beside: SocketAddr) -> Result<BlackHole> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, beside.port()));
    BlackHole::at(address).await.context("a black hole at ::1")
}

#[test]
fn a_registry_is_reached_at_its_second_address() -> Result<()> {
    with_hosts("a_registry_is_reached_at_its_second_address", async || {
        let site = Site::start()?;
        let _hole = hole(site.quay.address()).await?;
        let url = format!("http://two.test:{}", site.quay.address().port());
        let gateway = site.gateway(&json!({"registry": {"url": url}})).await?;
        let client = gateway.client(LOGIN)?;
        client.push(REPOSITORY, "v1", &Spec::layers(1, &[10_000]).build()?).await?;
        ensure!(client.pull(REPOSITORY, "v1").await?.len() == 2);
        let status = gateway.status().await?;
        ensure!(status["registry"]["zone-a"]["state"] == "closed", "{status}");
        Ok(())
    })
}

#[test]
fn a_store_is_reached_at_its_second_address() -> Result<()> {
    with_hosts("a_store_is_reached_at_its_second_address", async || {
        let site = Site::start()?;
        let _hole = hole(site.zone("zone-a").address).await?;
        let mut entry = site.zone("zone-a").quay_entry();
        entry[1]["hostname"] = "two.test".into();
        let gateway = site.gateway(&json!({"zones": {"zone-a": entry}})).await?;
        let client = gateway.client(LOGIN)?;
        let image = Spec::layers(1, &[10_000]).build()?;
        client.push(REPOSITORY, "v1", &image).await?;
        let pulled = client.pull(REPOSITORY, "v1").await?;
        let from = pulled.iter().filter_map(|blob| blob.cache_status.as_deref());
        ensure!(from.clone().count() == 2, "{pulled:?}");
        for status in from {
            ensure!(status.contains("zone=zone-a"), "{status}: home has the blob and is asked first");
        }
        Ok(())
    })
}
