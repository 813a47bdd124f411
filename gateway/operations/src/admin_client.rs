//! The client of a running gateway's admin API, for commands.

mod cache;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use backends::{Digest, Secret};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::admin_tls::AdminTls;
use crate::config_diff::ConfigDiff;
use crate::queue::SweepReport;
use crate::queue::{Add, Added, Changed, JobReport, Park, QueueReport, Retry};
use crate::reports::{CacheReport, CertificatesReport, TrafficReport};
use crate::zones::{DrainReport, ZonesReport};

/// The header of every command. A browser does not send it to another site without asking that site first, so the
/// admin API accepts only requests that have it.
pub const COMMAND_HEADER: &str = "quay-gateway-command";

/// Where the API is. Health probes and metrics are at the root.
const API: &str = "api/v1/";

/// The timeout of a request. The admin API may have to read the journal.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer of the admin API as it came.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub is_cut: bool,
}

/// The admin API of a running gateway.
#[derive(Debug)]
pub struct AdminClient {
    client: reqwest::Client,
    /// The root. Ends with a slash.
    root: Url,
    /// The bearer token of commands, if the gateway requires one.
    token: Option<Secret>,
}

impl AdminClient {
    /// A client of the gateway at this address. `token` is the one in its `admin.token_file`. Without `tls`, it speaks
    /// plain HTTP.
    ///
    /// # Errors
    /// A file of roots cannot be used, or the HTTP client cannot be created.
    pub fn at(address: SocketAddr, token: Option<Secret>, tls: Option<&AdminTls>) -> anyhow::Result<Self> {
        certificates::install_provider();
        let builder = reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
        // A gateway that listens on every address also listens on loopback.
        let address = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => ([127, 0, 0, 1], address.port()).into(),
            ip if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
            _ => address,
        };
        let (builder, root) = match tls {
            Some(tls) => tls.apply(builder, address)?,
            None => (builder, format!("http://{address}/").parse()?),
        };
        Ok(Self { client: builder.build()?, root, token })
    }

    /// The state of the gateway's zones.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn zones(&self) -> anyhow::Result<ZonesReport> {
        self.get("zones", &[]).await
    }

    /// What the gateway would change if it read its configuration again now.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses its configuration, or sends an unexpected answer.
    pub async fn config_diff(&self) -> anyhow::Result<ConfigDiff> {
        self.get("config/diff", &[]).await
    }

    /// What clients got.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn traffic(&self) -> anyhow::Result<TrafficReport> {
        self.get("traffic", &[]).await
    }

    /// The state of the cache.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn cache(&self) -> anyhow::Result<CacheReport> {
        self.get("cache", &[]).await
    }

    /// The certificates that clients see.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn certificates(&self) -> anyhow::Result<CertificatesReport> {
        self.get("certificates", &[]).await
    }

    /// Where the gateway is, as a URL.
    #[must_use]
    pub fn address(&self) -> &str {
        self.root.as_str().trim_end_matches('/')
    }

    /// Queues copies: all of them, or none.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn add(&self, add: &Add) -> anyhow::Result<Added> {
        match self.post("queue/add", add).await? {
            (StatusCode::TOO_MANY_REQUESTS, body) => Ok(Added::Full(error_text(&body))),
            (status, _) if status.is_success() => Ok(Added::Queued),
            (_, body) => bail!("{}", error_text(&body)),
        }
    }

    /// The queue of every zone.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn queue(&self) -> anyhow::Result<QueueReport> {
        self.get("queue", &[]).await
    }

    /// Lists at most `limit` jobs, of one zone and in one state if these are given, beginning after the job
    /// `after`.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
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
        self.get("queue/jobs", &query).await
    }

    /// The jobs of one blob.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn jobs_of(&self, digest: &Digest) -> anyhow::Result<Vec<JobReport>> {
        self.get(&format!("queue/jobs/{digest}"), &[]).await
    }

    /// The progress of the gateway's sweep.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn sweep(&self) -> anyhow::Result<SweepReport> {
        self.get("queue/sweep", &[]).await
    }

    /// Starts a round of the gateway's sweep now.
    ///
    /// # Errors
    /// The gateway cannot be reached, or has no sweep.
    pub async fn begin_sweep(&self) -> anyhow::Result<SweepReport> {
        match self.post("queue/sweep", &()).await? {
            (status, body) if status.is_success() => parse(&body),
            (_, body) => bail!("{}", error_text(&body)),
        }
    }

    /// Makes jobs due now.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn retry(&self, retry: &Retry) -> anyhow::Result<Changed> {
        self.change("queue/retry", retry).await
    }

    /// Parks jobs.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn park(&self, park: &Park) -> anyhow::Result<Changed> {
        self.change("queue/park", park).await
    }

    async fn change<T: Serialize + Sync>(&self, path: &str, body: &T) -> anyhow::Result<Changed> {
        match self.post(path, body).await? {
            (status, body) if status.is_success() => parse(&body),
            (_, body) => bail!("{}", error_text(&body)),
        }
    }

    /// Drains a zone, or undrains it.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses the request.
    pub async fn drain(&self, zone: &str, drain: bool) -> anyhow::Result<DrainReport> {
        let mut url = self.api("zones")?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend([zone, if drain { "drain" } else { "undrain" }]);
        }
        let answer = self.command(url).send().await;
        parse(&self.success_body(answer).await?)
    }

    /// Sends a GET request below the API's prefix and parses its JSON answer.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let mut url = self.api(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.client.get(url).send().await;
        parse(&self.success_body(answer).await?)
    }

    /// Sends a GET request for a path of the root and returns its answer, of which `max` bytes at most are read.
    ///
    /// # Errors
    /// The gateway cannot be reached, or its answer ends early.
    pub async fn raw(&self, path: &str, max: usize) -> anyhow::Result<RawAnswer> {
        let answer = self.client.get(self.root.join(path)?).send().await;
        let mut answer = answer.with_context(|| self.unreachable())?;
        let (status, mut body, mut is_cut) = (answer.status(), Vec::new(), false);
        while let Some(piece) = answer.chunk().await? {
            let room = max - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                is_cut = true;
                break;
            }
        }
        Ok(RawAnswer { status, body, is_cut })
    }

    /// Sends a command below the API's prefix and returns the status and the body of its answer.
    ///
    /// # Errors
    /// The gateway cannot be reached.
    pub async fn post<T: Serialize + Sync>(
        &self,
        path: &str,
        body: &T,
    ) -> anyhow::Result<(StatusCode, bytes::Bytes)> {
        let body = serde_json::to_vec(body)?;
        let command = self.command(self.api(path)?).header(CONTENT_TYPE, "application/json");
        let answer = command.body(body).send().await;
        let answer = answer.with_context(|| self.unreachable())?;
        Ok((answer.status(), answer.bytes().await?))
    }

    fn api(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.root.join(API)?.join(path)?)
    }

    fn command(&self, url: Url) -> reqwest::RequestBuilder {
        let command = self.client.post(url).header(COMMAND_HEADER, "1");
        match &self.token {
            Some(token) => command.bearer_auth(token.reveal()),
            None => command,
        }
    }

    async fn success_body(&self, answer: reqwest::Result<reqwest::Response>) -> anyhow::Result<bytes::Bytes> {
        let answer = answer.with_context(|| self.unreachable())?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if !status.is_success() {
            bail!("{}", error_text(&body));
        }
        Ok(body)
    }

    fn unreachable(&self) -> String {
        let tls = match self.root.scheme() {
            "https" => {
                ", and that its certificate is for that host and is signed by a CA that --ca or `ca` names"
            }
            _ => "",
        };
        format!("no gateway answers at {}: check that it runs, that this is its admin.listen{tls}", self.root)
    }
}

/// Parses a JSON answer.
///
/// # Errors
/// The body is not what this release expects.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("unexpected answer: the gateway may be of another version")
}

/// The text of an error: the detail of a problem (RFC 9457), or else the body as it is.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(body).trim_end().to_owned(),
    }
}
