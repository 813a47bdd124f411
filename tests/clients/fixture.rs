//! A registry with TLS, a gateway before it, and the files that `clients` writes.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::certs::Authority;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, PASSWORD, Site, USER};
use http::Method;
use real_servers::Login;
use rustls::ServerConfig;
use serde_json::Value;
use tempfile::TempDir;

/// The repository of all images.
const REPOSITORY: &str = "admin/app";
/// The registry's CA, in the gateway's folder.
const REGISTRY_CA: &str = "quay-ca.pem";

pub(crate) struct Fixture {
    pub(crate) site: Site,
    pub(crate) gateway: Gateway,
    authority: Authority,
    tree: TempDir,
}

impl Fixture {
    /// The gateway is `localhost:PORT`, and the registry `127.0.0.1:PORT` with a private CA.
    pub(crate) async fn start() -> Result<Self> {
        Self::with(&Value::Null).await
    }

    /// Like `start`, with `over` in the gateway's configuration.
    pub(crate) async fn with(over: &Value) -> Result<Self> {
        let authority = Authority::generate()?;
        let tls = Some(authority.certificate(&[])?.server_config()?);
        Self::of(over, authority, tls).await
    }

    /// Like `start`, with a registry that speaks plain HTTP.
    pub(crate) async fn plain() -> Result<Self> {
        Self::of(&Value::Null, Authority::generate()?, None).await
    }

    async fn of(over: &Value, authority: Authority, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let site = Site::with(&[("zone-a", Duration::ZERO)], Options { tls, ..Options::default() })?;
        let mut config = serde_json::json!({ "ca": REGISTRY_CA });
        if !over.is_null() {
            harness::gateway::overlay(&mut config, over);
        }
        let gateway = site.gateway_with(&config, &[(REGISTRY_CA, &authority.pem())]).await?;
        Ok(Self { site, gateway, authority, tree: TempDir::new()? })
    }

    pub(crate) fn login() -> Login {
        Login::new(USER, PASSWORD)
    }

    /// The file of the registry's CA.
    pub(crate) fn registry_ca(&self) -> String {
        self.gateway.dir().join(REGISTRY_CA).display().to_string()
    }

    /// A file below the folder into which `clients` writes.
    pub(crate) fn written(&self, path: &str) -> PathBuf {
        self.tree.path().join(path)
    }

    /// Runs `clients` with the gateway's configuration.
    pub(crate) async fn clients(&self, arguments: &[&str]) -> Result<Output> {
        let arguments: Vec<_> = ["clients"].iter().chain(arguments).copied().collect();
        self.gateway.command(&arguments).await
    }

    /// Runs `clients` with `--write`. Returns what it prints.
    pub(crate) async fn write(&self, arguments: &[&str]) -> Result<String> {
        let tree = self.tree.path().display().to_string();
        let arguments: Vec<_> = arguments.iter().copied().chain(["--write", &tree]).collect();
        let output = self.clients(&arguments).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Pushes a new image to the registry itself. Returns it and its name without the registry.
    pub(crate) async fn pushed(&self, seed: u64) -> Result<(Image, String)> {
        let image = Spec::layers(seed, &[40_000, 300]).build()?;
        let client = Client::new(&self.site.quay.url(), &[&self.authority.pem()], LOGIN)?;
        let tag = format!("v{seed}");
        client.push(REPOSITORY, &tag, &image).await?;
        Ok((image, format!("{REPOSITORY}:{tag}")))
    }

    /// The name of an image at the registry.
    pub(crate) fn at_registry(&self, name: &str) -> String {
        format!("{}/{name}", self.site.quay.hostname())
    }

    /// The name of an image at the gateway.
    pub(crate) fn at_gateway(&self, name: &str) -> String {
        format!("{}/{name}", self.gateway.hostname())
    }

    /// Checks in the gateway's log that a client got every blob of an image from it.
    pub(crate) async fn came_through_the_gateway(&self, image: &Image) -> Result<()> {
        for blob in image.blobs() {
            let read = format!("method=GET path=\"/v2/{REPOSITORY}/blobs/{}\" status=200", blob.digest);
            self.gateway.logged(&read).await.with_context(|| format!("{} did not come", blob.digest))?;
        }
        Ok(())
    }

    /// Checks that the registry itself was asked for every blob of an image.
    pub(crate) fn came_from_the_registry(&self, image: &Image) -> Result<()> {
        for blob in image.blobs() {
            let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
            ensure!(
                self.site.quay.record().count(&Method::GET, &path) > 0,
                "{path} was not read at the registry"
            );
        }
        Ok(())
    }
}
