//! Sites that keep pulling while Quay is away: killed, without its database, or hanging.

mod clients;
mod logins;
mod pulls;
mod taken_back;

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::client::{Answer, Client};
use harness::gateway::Gateway;
use harness::image::{Image, Manifest, Spec};
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const PRIVATE: &str = "admin/app";
const PUBLIC: &str = "admin/open";

const ACCEPT: (&str, &str) =
    ("accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json");

/// How Quay may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Gone,
    WithoutDatabase,
    Hanging,
}

const WAYS: [Way; 3] = [Way::Gone, Way::WithoutDatabase, Way::Hanging];

/// A site with a private and a public image of two platforms, and a gateway that remembers.
struct Edge {
    site: Site,
    gateway: Gateway,
    images: [Image; 2],
    index: Manifest,
}

impl Edge {
    async fn start() -> Result<Self> {
        Self::with(&json!({"offline": {"max_age": "1h"}})).await
    }

    async fn with(over: &Value) -> Result<Self> {
        let site = Site::start()?;
        for (repository, public) in [(PRIVATE, false), (PUBLIC, true)] {
            site.quay.add_repository(repository, public);
            site.quay.add_user("carol", "carol");
            site.quay.grant(repository, "carol", false);
        }
        site.quay.add_user("mallory", "mallory");
        site.quay.add_repository("mallory/own", false);
        let elsewhere = Spec { architecture: "arm64".into(), ..Spec::layers(2, &[5000; 3]) };
        let images = [Spec::layers(1, &[4000; 3]).build()?, elsewhere.build()?];
        let index = Manifest::index(&images);
        let direct = Client::new(&site.quay.url(), &[], LOGIN)?;
        for repository in [PRIVATE, PUBLIC] {
            for image in &images {
                direct.push(repository, &image.manifest.digest.to_string(), image).await?;
            }
            direct.push_manifest(repository, "v1", &index).await?;
        }
        let gateway = site.gateway(over).await?;
        gateway.verifies_tokens().await?;
        Ok(Self { site, gateway, images, index })
    }

    /// Pulls the whole image: the index by tag, and what it names. Returns the answer about the tag.
    async fn pull(&self, client: &Client, repository: &str) -> Result<Answer> {
        let tag = client.fetch(Method::GET, &format!("/v2/{repository}/manifests/v1"), &[ACCEPT]).await?;
        ensure!(tag.status == StatusCode::OK, "the tag: {}", tag.status);
        ensure!(tag.body == self.index.bytes, "another index");
        for image in &self.images {
            let target = format!("/v2/{repository}/manifests/{}", image.manifest.digest);
            let manifest = client.fetch(Method::GET, &target, &[ACCEPT]).await?;
            ensure!(manifest.status == StatusCode::OK, "a manifest: {}", manifest.status);
            ensure!(manifest.body == image.manifest.bytes, "another manifest");
            for blob in image.blobs() {
                client.pull_blob(repository, &blob.digest).await?;
            }
        }
        Ok(tag)
    }

    fn user(&self) -> Result<Client> {
        self.gateway.client(LOGIN)
    }

    /// Pulls both repositories while Quay is there, so that both are remembered.
    async fn learn(&self) -> Result<()> {
        self.pull(&self.user()?, PRIVATE).await?;
        self.pull(&self.gateway.client(None)?, PUBLIC).await?;
        Ok(())
    }

    async fn leave(&self, way: Way) {
        match way {
            Way::Gone => self.site.quay.down().await,
            Way::WithoutDatabase => self.site.quay.set(|faults| faults.broken = true),
            Way::Hanging => self.site.quay.set(|faults| faults.silent = true),
        }
    }

    async fn come_back(&self, way: Way) {
        match way {
            Way::Gone => self.site.quay.up().await,
            Way::WithoutDatabase => self.site.quay.set(|faults| faults.broken = false),
            Way::Hanging => self.site.quay.set(|faults| faults.silent = false),
        }
    }

    /// Quay comes back, and the gateway asks it again.
    async fn back(&self, way: Way) -> Result<()> {
        self.come_back(way).await;
        eventually("Quay answers again", async || {
            let tag = self.pull(&self.user()?, PRIVATE).await?;
            ensure!(tag.header("warning").is_empty(), "still stale");
            Ok(())
        })
        .await
    }

    /// Waits until the gateway knows that Quay is away.
    async fn away(&self) -> Result<()> {
        let client = self.gateway.client(None)?;
        eventually("the gateway knows that Quay is away", async || {
            let answer = client.raw(Method::GET, "/v2/_catalog")?.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            ensure!(
                status == StatusCode::SERVICE_UNAVAILABLE && text.contains("the registry is away"),
                "{status} {text}"
            );
            Ok(())
        })
        .await
    }
}

/// Repeats something that becomes true by itself until it is.
async fn eventually(what: &str, mut attempt: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error.context(what.to_owned()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
