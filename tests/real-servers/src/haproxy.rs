//! HAProxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::{Program, ServerProcess};

const START: Duration = Duration::from_secs(30);

/// A running HAProxy.
#[derive(Debug)]
pub struct HaProxy {
    port: u16,
    _process: ServerProcess,
    _folder: TempDir,
}

impl HaProxy {
    /// Starts HAProxy in TCP mode on this port of loopback. It connects to `server` from the address `source`, and
    /// names its clients with the PROXY protocol.
    ///
    /// # Errors
    /// HAProxy is not installed or does not start.
    pub async fn start(port: u16, server: SocketAddr, source: &str) -> Result<Self> {
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             listen gateway\n  bind 127.0.0.1:{port}\n  server gateway {server} source {source} send-proxy-v2\n"
        );
        Self::with_config(port, &config).await
    }

    /// Starts HAProxy with a configuration that listens on this port of loopback, after HAProxy's own check of it.
    ///
    /// # Errors
    /// HAProxy is not installed, refuses the configuration, warns of it, or does not start.
    pub async fn with_config(port: u16, config: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let checked = Program::find("haproxy")?.arg("-c").arg("-f").arg(&file).run(START).await?;
        ensure!(!checked.contains("Warnings"), "haproxy -c: {checked}");
        let mut process = Program::find("haproxy")?.arg("-db").arg("-f").arg(&file).serve(folder.path())?;
        process.ready(START, || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await?;
        Ok(Self { port, _process: process, _folder: folder })
    }

    /// The name that clients dial, as `host:port`.
    #[must_use]
    pub fn hostname(&self) -> String {
        format!("localhost:{}", self.port)
    }
}
