//! Real clients while Quay is away: skopeo and podman by name, containerd with `ctr` and as the kubelet uses it.

use anyhow::{Context as _, Result, ensure};
use harness::site::{PASSWORD, USER};
use http::Method;
use real_servers::{Containerd, Login, Podman, Skopeo};
use tempfile::TempDir;

use super::{Edge, PRIVATE, PUBLIC, Way, eventually};

/// The clients' settings for one gateway.
struct Clients<'a> {
    edge: &'a Edge,
    /// A folder with `ca.crt`.
    trusted: TempDir,
    /// What `clients containerd` writes.
    hosts: TempDir,
}

impl<'a> Clients<'a> {
    async fn of(edge: &'a Edge) -> Result<Self> {
        let (trusted, hosts) = (TempDir::new()?, TempDir::new()?);
        std::fs::copy(edge.gateway.authority_file(), trusted.path().join("ca.crt"))?;
        let tree = hosts.path().display().to_string();
        let output = edge.gateway.command(&["clients", "containerd", "--write", &tree]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { edge, trusted, hosts })
    }

    /// All clients pull the private image with their login, and skopeo the public one without. Their storages are empty
    /// before.
    async fn pull(&self) -> Result<()> {
        let reference = |repository: &str| format!("{}/{repository}:v1", self.edge.gateway.hostname());
        let login = || Login::new(USER, PASSWORD);
        let trusted = || self.trusted.path().to_owned();
        for (repository, login) in [(PRIVATE, Some(login())), (PUBLIC, None)] {
            let to = TempDir::new()?;
            Skopeo { trusted: trusted(), login }
                .pull(&reference(repository), to.path())
                .await
                .with_context(|| format!("skopeo, {repository}"))?;
            // It pulled both platforms, and verified each blob.
            for blob in self.edge.images.iter().flat_map(|image| image.blobs()) {
                ensure!(to.path().join(blob.digest.hex()).exists(), "{} did not come", blob.digest);
            }
        }
        let pulled = Podman::new(trusted(), login())?.pull(&reference(PRIVATE)).await.context("podman")?.id;
        let here = self.edge.images[0].config.digest.hex();
        ensure!(pulled == here, "podman has the config {pulled}");
        let hosts = self.hosts.path().join("etc/containerd/certs.d");
        for repository in [PRIVATE, PUBLIC] {
            let containerd = Containerd::with_hosts(&hosts, login()).await?;
            containerd.pull_by_cri(&reference(repository)).await.context("the kubelet's containerd")?;
            let containerd = Containerd::with_hosts(&hosts, login()).await?;
            containerd.pull_runnable(&reference(repository)).await.context("ctr")?;
        }
        Ok(())
    }

    /// A stranger gets nothing of the private image.
    async fn refused(&self) -> Result<()> {
        let reference = format!("{}/{PRIVATE}:v1", self.edge.gateway.hostname());
        for login in [None, Some(Login::new(USER, "wrong")), Some(Login::new("mallory", "mallory"))] {
            let to = TempDir::new()?;
            let skopeo = Skopeo { trusted: self.trusted.path().to_owned(), login };
            ensure!(skopeo.pull(&reference, to.path()).await.is_err(), "a stranger pulled the private image");
        }
        Ok(())
    }
}

async fn clients_pull_while_quay_is(way: Way) -> Result<()> {
    let edge = Edge::start().await?;
    let clients = Clients::of(&edge).await?;
    clients.pull().await.context("with Quay")?;
    edge.leave(way).await;
    edge.away().await?;
    eventually("what was learned is on disk", async || edge.pull(&edge.user()?, PRIVATE).await.map(drop))
        .await?;
    let calls = edge.site.quay.record();
    calls.clear();
    clients.pull().await.with_context(|| format!("Quay is away: {way:?}"))?;
    for repository in [PRIVATE, PUBLIC] {
        let asked = calls.count(&Method::GET, &format!("/v2/{repository}/"));
        ensure!(asked == 0, "{way:?}: {asked} calls for {repository} at Quay");
    }
    clients.refused().await?;
    edge.back(way).await?;
    clients.pull().await.context("Quay is back")?;
    clients.refused().await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pull_while_quay_is_killed() -> Result<()> {
    clients_pull_while_quay_is(Way::Gone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pull_while_quay_has_no_database() -> Result<()> {
    clients_pull_while_quay_is(Way::WithoutDatabase).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pull_while_quay_hangs() -> Result<()> {
    clients_pull_while_quay_is(Way::Hanging).await
}
