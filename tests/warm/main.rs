//! `quay-gateway warm` and `cache`, and pinned images: what the gateway's cache holds before clients come.

mod command;
mod contents;
mod layout;
mod pins;

use std::process::Output;

use anyhow::{Context as _, Result};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Manifest, Spec};
use harness::site::{LOGIN, PASSWORD, Site, USER};
use serde_json::{Value, json};

/// The repository that the tests use.
const REPOSITORY: &str = "admin/app";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parsed(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

/// The gateway's service account.
fn account() -> Value {
    json!({ "registry": { "account": { "username": USER, "password_file": "password" } } })
}

/// A site, a gateway with a service account whose cache is empty, and an index of two images at the tag `v1`.
async fn with_index(over: &Value) -> Result<(Site, Gateway, [Image; 2])> {
    let site = Site::start()?;
    let amd = Spec::layers(1, &[30_000, 200_000]).build()?;
    let arm = Spec { architecture: "arm64".into(), ..Spec::layers(2, &[40_000]) }.build()?;
    let client = Client::new(&site.quay.url(), &[], LOGIN)?;
    client.push(REPOSITORY, "amd64", &amd).await?;
    client.push(REPOSITORY, "arm64", &arm).await?;
    let images = [amd, arm];
    client.push_manifest(REPOSITORY, "v1", &Manifest::index(&images)).await?;
    let mut config = account();
    harness::gateway::overlay(&mut config, over);
    let gateway = site.gateway_with(&config, &[("password", PASSWORD)]).await?;
    Ok((site, gateway, images))
}
