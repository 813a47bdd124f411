//! Two instances of Quay with one database, and a gateway in front of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::client::{Answer, Client};
use harness::gateway::{Gateway, overlay};
use harness::image::{Image, Spec};
use harness::quay::Quay;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const REPOSITORY: &str = "admin/one";
pub(crate) const UPLOADS: &str = "/blobs/uploads/";
pub(crate) const PARAMETER: &str = "quay-gateway-instance";

/// Quay a prefers zone-a, which is home. Quay b prefers zone-b.
pub(crate) struct Pair {
    pub(crate) site: Site,
    pub(crate) b: Quay,
}

impl Pair {
    pub(crate) fn start() -> Result<Self> {
        let site = Site::start()?;
        let b = site.instance("zone-b")?;
        Ok(Self { site, b })
    }

    pub(crate) fn a(&self) -> &Quay {
        &self.site.quay
    }

    pub(crate) fn config(&self) -> Value {
        self.config_with(&self.a().url())
    }

    /// The configuration with another address for Quay a.
    pub(crate) fn config_with(&self, a: &str) -> Value {
        // The home instance is used first, whatever its position in the list.
        let instances = json!([{"url": self.b.url(), "zone": "zone-b"}, {"url": a, "zone": "zone-a"}]);
        // Probes are triggered by failures here. Their timeout is long enough for a busy machine.
        let timeouts = json!({"registry_probe": "10s", "registry_probe_every": "1h"});
        // Only the requests of the test reach the instances.
        let auth = json!({"verify_tokens": false});
        json!({"registry": {"url": null, "instances": instances}, "timeouts": timeouts, "auth": auth})
    }

    pub(crate) async fn gateway(&self) -> Result<Gateway> {
        self.gateway_with(&self.config()).await
    }

    /// A gateway that has probed both instances successfully.
    pub(crate) async fn gateway_with(&self, config: &Value) -> Result<Gateway> {
        let probes = || [self.a().probes(), self.b.probes()];
        let before = probes();
        let gateway = self.site.gateway(config).await?;
        while probes().iter().zip(before).any(|(now, before)| *now == before) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(gateway)
    }

    /// Detects hanging instances quickly. All other timeouts of the registry are so long that a request which
    /// waits for one fails the test.
    pub(crate) fn impatient(mut config: Value) -> Value {
        let timeouts = json!({
            "registry_probe": "400ms", "registry_lost": "400ms", "registry_upload_begin": "10m",
            "registry_answer": "10m", "registry_permission": "10m", "registry_first_pull": "10m",
            "registry_upload": "10m", "blob_answer": "10m", "permission": "1ms",
        });
        overlay(&mut config, &json!({"timeouts": timeouts}));
        config
    }

    /// How many of these requests each instance got.
    pub(crate) fn counts(&self, method: &Method, part: &str) -> (usize, usize) {
        (self.a().record().count(method, part), self.b.record().count(method, part))
    }
}

pub(crate) fn image(seed: u64) -> Result<Image> {
    Spec::layers(seed, &[200_000, 500]).build()
}

/// A client with a token for pushes, and the path of an upload that it started.
pub(crate) async fn begun(gateway: &Gateway) -> Result<(Client, String)> {
    let client = gateway.client(LOGIN)?;
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let started = client.send(Method::POST, &target, &[], Bytes::new()).await?;
    ensure!(started.status() == StatusCode::ACCEPTED, "POST: {}", started.status());
    let location = started.headers()["location"].to_str()?;
    let path = location.strip_prefix(&gateway.url()).context("the gateway's own Location")?;
    Ok((client, path.to_owned()))
}

pub(crate) fn problem(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}
