//! HAProxy, which passes TLS connections on and names its clients with the PROXY protocol.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::{Program, ServerProcess};

const START: Duration = Duration::from_secs(30);

/// HAProxy in TCP mode.
#[derive(Debug)]
pub struct HaProxy {
    port: u16,
    _process: ServerProcess,
    _folder: TempDir,
}

impl HaProxy {
    /// Starts HAProxy on this port of loopback. It connects to `server` from the address `source`.
    ///
    /// # Errors
    /// HAProxy is not installed or does not start.
    pub async fn start(port: u16, server: SocketAddr, source: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("haproxy.cfg");
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             listen gateway\n  bind 127.0.0.1:{port}\n  server gateway {server} source {source} send-proxy-v2\n"
        );
        std::fs::write(&file, config)?;
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
