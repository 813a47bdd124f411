//! Envoy.

use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::{Program, ServerProcess};

const START: Duration = Duration::from_secs(30);

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    port: u16,
    _process: ServerProcess,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with a configuration that listens on this port of loopback, after Envoy's own check of it.
    ///
    /// # Errors
    /// Envoy is not installed, refuses the configuration, warns of it, or does not start.
    pub async fn with_config(port: u16, config: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("envoy.yaml");
        std::fs::write(&file, config)?;
        let envoy = || Ok::<_, anyhow::Error>(Program::find("envoy")?.arg("-c").arg(&file));
        envoy()?.args(["--mode", "validate"]).run(START).await?;
        // Several Envoys run here, and they must not share memory.
        let mut process =
            envoy()?.args(["--disable-hot-restart", "--concurrency", "1"]).serve(folder.path())?;
        process.ready(START, || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await?;
        let log = process.log_text();
        ensure!(!log.contains("][warning]"), "{log}");
        Ok(Self { port, _process: process, _folder: folder })
    }

    /// The name that clients dial, as `host:port`.
    #[must_use]
    pub fn hostname(&self) -> String {
        format!("localhost:{}", self.port)
    }
}
