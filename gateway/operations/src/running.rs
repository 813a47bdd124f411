//! What commands ask a running gateway, and tell it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use backends::{Digest, Secret};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::queue::SweepReport;
use crate::queue::{Add, Added, Changed, JobReport, Park, QueueReport, Retry};
use crate::zones::Report;

/// The header of a command, by which the admin side knows that it comes from `quay-gateway`: no browser sends it to
/// another site unasked.
pub const COMMAND_HEADER: &str = "quay-gateway-command";

/// For an answer of the admin side, which looks into the journal.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The admin side of a running gateway.
#[derive(Debug)]
pub struct Running {
    client: reqwest::Client,
    base: Url,
    /// What commands bear, where there is one.
    token: Option<Secret>,
}

impl Running {
    /// The one at this address; `token` is that of its `admin.token_file`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn at(address: std::net::SocketAddr, token: Option<Secret>) -> anyhow::Result<Self> {
        certificates::install_provider();
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        // Where it listens on every address, this machine's own is one.
        let address = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => ([127, 0, 0, 1], address.port()).into(),
            ip if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
            _ => address,
        };
        Ok(Self { client, base: format!("http://{address}/").parse()?, token })
    }

    /// What it knows of its zones.
    ///
    /// # Errors
    /// It does not run, or does not answer so.
    pub async fn zones(&self) -> anyhow::Result<Report> {
        self.asked("zones", &[]).await
    }

    /// Queues copies, all of these or none.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn add(&self, add: &Add) -> anyhow::Result<Added> {
        match self.post("queue/add", add).await? {
            (StatusCode::TOO_MANY_REQUESTS, said) => Ok(Added::Full(text(&said))),
            (status, _) if status.is_success() => Ok(Added::Queued),
            (_, said) => bail!("{}", text(&said)),
        }
    }

    /// Every zone's queue.
    ///
    /// # Errors
    /// It does not run, or does not answer so.
    pub async fn queue(&self) -> anyhow::Result<QueueReport> {
        self.asked("queue", &[]).await
    }

    /// Jobs of a zone, or of all, that stand so, or all; after this one, so many at most.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn jobs(
        &self,
        zone: Option<&str>,
        state: Option<&str>,
        after: Option<&JobReport>,
        limit: usize,
    ) -> anyhow::Result<Vec<JobReport>> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(zone.map(|zone| ("zone", zone.to_owned())));
        query.extend(state.map(|state| ("state", state.to_owned())));
        if let Some(job) = after {
            query.extend([("after_zone", job.zone.clone()), ("after_digest", job.digest.clone())]);
        }
        self.asked("queue/jobs", &query).await
    }

    /// The jobs of one blob.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn jobs_of(&self, digest: &Digest) -> anyhow::Result<Vec<JobReport>> {
        self.asked(&format!("queue/jobs/{digest}"), &[]).await
    }

    /// How far its sweep is.
    ///
    /// # Errors
    /// It does not run, or does not answer so.
    pub async fn sweep(&self) -> anyhow::Result<SweepReport> {
        self.asked("queue/sweep", &[]).await
    }

    /// Has a round of its sweep begin now.
    ///
    /// # Errors
    /// It does not run, or has none: why.
    pub async fn begin_sweep(&self) -> anyhow::Result<SweepReport> {
        match self.post("queue/sweep", &()).await? {
            (status, body) if status.is_success() => understood(&body),
            (_, said) => bail!("{}", text(&said)),
        }
    }

    /// Has jobs tried again.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn retry(&self, retry: &Retry) -> anyhow::Result<Changed> {
        self.changed("queue/retry", retry).await
    }

    /// Sets jobs aside.
    ///
    /// # Errors
    /// It does not run, or refuses: why.
    pub async fn park(&self, park: &Park) -> anyhow::Result<Changed> {
        self.changed("queue/park", park).await
    }

    async fn changed<T: Serialize + Sync>(&self, path: &str, said: &T) -> anyhow::Result<Changed> {
        match self.post(path, said).await? {
            (status, body) if status.is_success() => understood(&body),
            (_, said) => bail!("{}", text(&said)),
        }
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
        let answer = self.command(url).send().await;
        self.checked(answer).await.map(drop)
    }

    /// What it says at this path.
    pub async fn asked<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let mut url = self.base.join(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.client.get(url).send().await;
        understood(&self.checked(answer).await?)
    }

    /// Its answer to a command.
    pub async fn post<T: Serialize + Sync>(
        &self,
        path: &str,
        said: &T,
    ) -> anyhow::Result<(StatusCode, bytes::Bytes)> {
        let body = serde_json::to_vec(said)?;
        let url = self.base.join(path)?;
        let answer = self.command(url).body(body).send().await;
        let answer = answer.with_context(|| self.silent())?;
        Ok((answer.status(), answer.bytes().await?))
    }

    fn command(&self, url: Url) -> reqwest::RequestBuilder {
        let command = self.client.post(url).header(COMMAND_HEADER, "1");
        match &self.token {
            Some(token) => command.bearer_auth(token.reveal()),
            None => command,
        }
    }

    async fn checked(&self, answer: reqwest::Result<reqwest::Response>) -> anyhow::Result<bytes::Bytes> {
        let answer = answer.with_context(|| self.silent())?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if !status.is_success() {
            bail!("{}", text(&body));
        }
        Ok(body)
    }

    fn silent(&self) -> String {
        format!("no gateway answers at {}: is it running, and is admin.listen its own?", self.base)
    }
}

/// An answer of the same version.
pub fn understood<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the answer is not understood: is it another version?")
}

/// What was said in words.
pub fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end().to_owned()
}
