//! The gateway itself, as a process of its own in front of a docker-registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Certificates;
use super::ports::free_port;
use super::process::{Program, Server};
use super::registry::DockerRegistry;

const START_BOUND: Duration = Duration::from_secs(20);

/// A running `quay-gateway`.
#[derive(Debug)]
pub struct DistributionGateway {
    /// `host:port` as clients dial it.
    pub endpoint: String,
    server: Server,
    _folder: TempDir,
}

impl DistributionGateway {
    /// Starts it before `registry`; `zones` are names with their entries in Quay's form, home first.
    ///
    /// # Errors
    /// It is not built or does not start.
    pub async fn start(
        registry: &DockerRegistry,
        certificates: &Certificates,
        zones: &[(&str, Value)],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("quay-gateway-").tempdir()?;
        let (port, admin) = (free_port(), free_port());
        let endpoint = format!("127.0.0.1:{port}");
        let tls = certificates.server();
        let at = |name: &str| folder.path().join(name);
        for name in ["state", "cache"] {
            std::fs::create_dir(at(name))?;
        }
        let configuration = json!({
            "listen": endpoint, "hostname": endpoint,
            "tls": { "certificate": tls.certificate, "key": tls.key },
            "state_dir": at("state"),
            "registry": { "kind": "distribution", "url": format!("https://{}", registry.endpoint) },
            "home": zones.first().map(|(name, _)| name),
            "ca": certificates.root(),
            "zones": zones.iter().map(|(name, zone)| ((*name).to_owned(), zone.clone())).collect::<serde_json::Map<_, _>>(),
            "cache": { "dir": at("cache"), "size": "2GiB" },
            "admin": { "listen": format!("127.0.0.1:{admin}") },
        });
        // JSON is YAML.
        let file = at("gateway.yaml");
        std::fs::write(&file, configuration.to_string())?;
        let mut server =
            Program::at(&binary()?)?.args(["run", "--config"]).arg(&file).serve(folder.path())?;
        let listening = || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        server.ready(START_BOUND, listening).await?;
        Ok(Self { endpoint, server, _folder: folder })
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log_text()
    }
}

/// Beside the test's own binary, which lies in `deps`: `cargo build -p gateway` puts it there.
fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("a test in target/<profile>/deps")?;
    Ok(profile.join("quay-gateway"))
}
