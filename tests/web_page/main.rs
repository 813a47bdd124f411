//! The web page of the admin listener: in a real Chromium, before a gateway with three zones.

mod commands;
mod keyboard;
mod looks;
mod shown;
mod stream;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site, ZONES};
use real_servers::{Browser, Look};
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/app";

/// A window of a usual size.
const DESKTOP: Look = Look { width: 1280, height: 900, scheme: "light" };

/// The timeout for background work of the gateway.
const SOON: Duration = Duration::from_secs(60);

/// A site with three zones at different distances, and a gateway in front of it.
struct Fixture {
    site: Site,
    gateway: Gateway,
}

impl Fixture {
    async fn start() -> Result<Self> {
        Self::with(&json!({}), &[]).await
    }

    async fn with(over: &Value, files: &[(&str, &str)]) -> Result<Self> {
        let site = Site::with(&ZONES, Options::default())?;
        let gateway = site.gateway_with(over, files).await?;
        Ok(Self { site, gateway })
    }

    fn url(&self) -> String {
        self.url_over("http")
    }

    fn url_over(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.gateway.admin_address())
    }

    /// A browser that shows the page, live.
    async fn browser(&self, look: Look) -> Result<Browser> {
        self.browser_at(&self.url(), look).await
    }

    async fn browser_at(&self, url: &str, look: Look) -> Result<Browser> {
        let mut browser = Browser::start().await?;
        browser.open(url, look).await?;
        let rows = format!("document.querySelectorAll('#zones tr').length === {}", ZONES.len());
        browser.wait::<bool>(&rows).await?;
        browser.wait::<bool>("document.getElementById('link').dataset.state === 'live'").await?;
        Ok(browser)
    }

    /// Pushes an image, and waits until every zone has its blobs.
    async fn push(&self, seed: u64, tag: &str, sizes: &[u64]) -> Result<Image> {
        let image = Spec::layers(seed, sizes).build()?;
        self.gateway.client(LOGIN)?.push(REPOSITORY, tag, &image).await?;
        let deadline = Instant::now() + SOON;
        let blobs: Vec<_> = image.layers.iter().chain([&image.config]).map(|blob| blob.digest).collect();
        while !blobs.iter().all(|blob| self.site.zones.iter().all(|zone| zone.has(blob))) {
            ensure!(Instant::now() < deadline, "a zone has no copy");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(image)
    }

    async fn pull(&self, tag: &str) -> Result<()> {
        self.gateway.client(LOGIN)?.pull(REPOSITORY, tag).await?;
        Ok(())
    }

    /// The gateway's own report on a zone.
    async fn zone(&self, name: &str) -> Result<Value> {
        let report = self.gateway.zones().await?;
        let zones = report["zones"].as_array().context("zones")?;
        zones.iter().find(|zone| zone["name"] == name).cloned().context("the zone")
    }
}

/// No error and no warning is on the console: no blocked script, no missing file.
async fn assert_quiet(browser: &mut Browser) -> Result<()> {
    let errors = browser.errors().await?;
    ensure!(errors.is_empty(), "on the console: {errors:#?}");
    Ok(())
}

/// The row of a zone, as an expression.
fn row(zone: &str) -> String {
    format!("document.querySelector('#zones tr[data-zone=\"{zone}\"]')")
}
