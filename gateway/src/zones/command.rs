//! What `quay-gateway zones` asks a running gateway.

use std::time::Duration;

use anyhow::{Context as _, bail};
use url::Url;

use super::report::Report;
use crate::admin::COMMAND_HEADER;

/// For an answer of the admin side, which looks into the journal.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The admin side of a running gateway.
#[derive(Debug)]
pub struct Running {
    client: reqwest::Client,
    base: Url,
}

impl Running {
    /// The one at this address.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn at(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        crate::tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        // Where it listens on every address, this machine's own is one.
        let address = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => ([127, 0, 0, 1], address.port()).into(),
            ip if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
            _ => address,
        };
        Ok(Self { client, base: format!("http://{address}/").parse()? })
    }

    /// What it knows of its zones.
    ///
    /// # Errors
    /// It does not run, or does not answer so.
    pub async fn zones(&self) -> anyhow::Result<Report> {
        let answer = self.client.get(self.base.join("zones")?).send().await;
        let body = self.checked(answer).await?;
        serde_json::from_slice(&body).context("the answer is not understood: is it another version?")
    }

    /// Drains a zone, or undoes that.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn drain(&self, zone: &str, drain: bool) -> anyhow::Result<()> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(["zones", zone, if drain { "drain" } else { "undrain" }]);
        }
        let answer = self.client.post(url).header(COMMAND_HEADER, "1").send().await;
        self.checked(answer).await.map(drop)
    }

    async fn checked(&self, answer: reqwest::Result<reqwest::Response>) -> anyhow::Result<bytes::Bytes> {
        let answer = answer.with_context(|| {
            format!("no gateway answers at {}: is it running, and is admin.listen its own?", self.base)
        })?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if !status.is_success() {
            bail!("{}", String::from_utf8_lossy(&body).trim_end());
        }
        Ok(body)
    }
}
