//! A site, a gateway, and an image.

use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use harness::client::Answer;
use harness::gateway::Gateway;
use harness::image::{Blob, Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use http::Method;
use serde_json::json;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "admin/one";

/// A site, a gateway, and an image that was pushed directly to Quay, so that only zone-a has it.
pub(crate) struct Fixture {
    pub(crate) site: Site,
    pub(crate) gateway: Gateway,
    pub(crate) image: Image,
}

impl Fixture {
    pub(crate) async fn new(options: Options, config: serde_json::Value) -> Result<Self> {
        let site = Site::with(&["zone-a", "zone-b", "zone-c"].map(|name| (name, Duration::ZERO)), options)?;
        let gateway = site.gateway(&config).await?;
        let image = Spec::layers(1, &[300_000, 20_000]).build()?;
        harness::client::Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        Ok(Self { site, gateway, image })
    }

    pub(crate) async fn plain() -> Result<Self> {
        Self::new(Options::default(), json!({})).await
    }

    pub(crate) fn layer(&self) -> &Blob {
        &self.image.layers[0]
    }

    pub(crate) async fn get(&self, digest: &Digest, headers: &[(&str, &str)]) -> Result<Answer> {
        let client = self.gateway.client(LOGIN)?;
        client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/blobs/{digest}"), headers).await
    }
}

/// One zone, so that a read cannot continue elsewhere, and an image that only this zone has.
pub(crate) async fn one_zone(config: serde_json::Value) -> Result<Fixture> {
    let site = Site::with(&[("zone-a", Duration::ZERO)], Options::default())?;
    let gateway = site.gateway(&config).await?;
    let image = Spec::layers(1, &[300_000, 20_000]).build()?;
    harness::client::Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    Ok(Fixture { site, gateway, image })
}
