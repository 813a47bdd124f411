//! Blobs in zones, and commands of the gateway's binary.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::gateway::Gateway;
use harness::site::Site;
use serde_json::Value;

/// Makes the findings independent of the time at which a test wrote the objects.
pub(crate) const NOW: [&str; 2] = ["--min-age", "0s"];

/// Writes a blob of this many bytes into every zone of the site.
pub(crate) fn everywhere(site: &Site, seed: u64, bytes: usize) -> Result<Digest> {
    let content = fastrand::Rng::with_seed(seed);
    let content: Vec<u8> = std::iter::repeat_with({
        let mut content = content;
        move || content.u8(..)
    })
    .take(bytes)
    .collect();
    let digest = Digest::of(&content);
    site.zones.iter().try_for_each(|zone| zone.write(&digest, &content))?;
    Ok(digest)
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Result<Self> {
        let (status, stdout) = (output.status.code(), String::from_utf8(output.stdout)?);
        Ok(Self { status, stdout, stderr: String::from_utf8(output.stderr)? })
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

/// Runs a command with the gateway's configuration.
pub(crate) async fn command(gateway: &Gateway, arguments: &[&[&str]]) -> Result<Ended> {
    Ended::of(gateway.command(&arguments.concat()).await?)
}

/// Runs an audit and parses its JSON.
pub(crate) async fn audited(gateway: &Gateway, arguments: &[&str], status: i32) -> Result<Value> {
    let ended = command(gateway, &[&["audit", "--output", "json"], &NOW, arguments]).await?;
    ensure!(ended.status == Some(status), "{ended:?}");
    ended.json()
}

/// The kind, zone and name of each finding, sorted.
pub(crate) fn found(report: &Value) -> Vec<(String, String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let name = |finding: &Value| text(finding, "digest") + &text(finding, "key");
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut found: Vec<_> =
        findings.map(|finding| (text(finding, "kind"), text(finding, "zone"), name(finding))).collect();
    found.sort();
    found
}

/// The expected value of [`found`].
pub(crate) fn wanted(all: &[(&str, &str, &dyn std::fmt::Display)]) -> Vec<(String, String, String)> {
    let of = |(kind, zone, name): &(&str, &str, &dyn std::fmt::Display)| {
        ((*kind).to_owned(), (*zone).to_owned(), name.to_string())
    };
    let mut wanted: Vec<_> = all.iter().map(of).collect();
    wanted.sort();
    wanted
}
