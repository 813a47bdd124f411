//! A gateway whose certificates lie in a mounted Secret.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::certs::{Authority, Certificate, client_config};
use harness::gateway::Gateway;
use harness::site::Site;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The timeout for the gateway to notice something.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A Secret as kubelet mounts it: `tls.crt` → `..data/tls.crt`, and `..data` → the folder of this generation.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: TempDir,
    generation: u32,
}

impl Mount {
    pub(crate) fn new(certificate: &Certificate) -> Result<Self> {
        let mut mount = Self { dir: tempfile::tempdir()?, generation: 0 };
        mount.swap(&certificate.chain, &certificate.key)?;
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), mount.at(name))?;
        }
        Ok(mount)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the whole Secret, as kubelet does: a new folder, one rename, and the old folder is removed.
    pub(crate) fn swap(&mut self, chain: &str, key: &str) -> Result<()> {
        self.generation += 1;
        let folder = format!("..generation_{}", self.generation);
        fs::create_dir(self.at(&folder))?;
        fs::write(self.at(&folder).join("tls.crt"), chain)?;
        fs::write(self.at(&folder).join("tls.key"), key)?;
        symlink(&folder, self.at("..data_tmp"))?;
        #[expect(clippy::disallowed_methods, reason = "as kubelet does it")]
        fs::rename(self.at("..data_tmp"), self.at("..data"))?;
        if self.generation > 1 {
            fs::remove_dir_all(self.at(&format!("..generation_{}", self.generation - 1)))?;
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> Value {
        json!({ "tls": { "certificate": self.at("tls.crt"), "key": self.at("tls.key") } })
    }
}

/// A site with a gateway whose certificate comes from a mount.
pub(crate) struct Fixture {
    pub(crate) authority: Authority,
    pub(crate) mount: Mount,
    pub(crate) first: Certificate,
    pub(crate) gateway: Gateway,
    pub(crate) site: Site,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        let authority = Authority::generate()?;
        let first = authority.certificate(&["first.example.com"])?;
        let mount = Mount::new(&first)?;
        let site = Site::start()?;
        let gateway = site.gateway(&mount.config()).await?;
        Ok(Self { authority, mount, first, gateway, site })
    }

    /// The certificate that a new connection gets, which the client verifies.
    pub(crate) async fn seen(&self) -> Result<Vec<u8>> {
        leaf_for(&self.gateway, &self.authority, "localhost").await
    }

    /// Waits until a new connection gets this certificate.
    pub(crate) async fn until_seen(&self, certificate: &Certificate) -> Result<()> {
        let (wanted, deadline) = (leaf(certificate)?, Instant::now() + SOON);
        while self.seen().await? != wanted {
            ensure!(Instant::now() < deadline, "the certificate is not served: {}", self.gateway.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// The first certificate of a chain, in DER.
pub(crate) fn leaf(certificate: &Certificate) -> Result<Vec<u8>> {
    Ok(CertificateDer::from_pem_slice(certificate.chain.as_bytes())?.to_vec())
}

/// The certificate that a client gets for this server name.
pub(crate) async fn leaf_for(gateway: &Gateway, authority: &Authority, name: &str) -> Result<Vec<u8>> {
    let stream = connect(gateway, client_config(&[&authority.pem()])?, name).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain.first().context("no certificate")?.to_vec())
}

/// A connection after its handshake.
pub(crate) async fn connect(
    gateway: &Gateway,
    config: rustls::ClientConfig,
    name: &str,
) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(gateway.address()).await?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Asks for `/v2/` and returns the first bytes of the answer, which is 401.
pub(crate) async fn ask(stream: &mut TlsStream<TcpStream>) -> Result<String> {
    let request = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut answer)).await.context("no answer")??;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// The value of a line of the metrics.
pub(crate) async fn measured(gateway: &Gateway, series: &str) -> Result<String> {
    let metrics = gateway.metrics().await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("quay_gateway_{series} ")));
    line.map(str::to_owned).with_context(|| format!("no {series} in {metrics}"))
}
