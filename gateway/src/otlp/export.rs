//! Sends spans to the collector in batches: OTLP over HTTP, with Protobuf.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use config::OtlpSettings;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use reqwest::redirect;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

use super::COUNTS;

/// The most spans of one export.
const BATCH: usize = 512;

/// How long an export waits for further spans.
const GATHER: Duration = Duration::from_secs(1);

/// The timeout for connecting to the collector.
const CONNECT: Duration = Duration::from_secs(3);

/// The timeout of one export.
const SEND: Duration = Duration::from_secs(10);

/// The pauses between the tries of one export. After the last try, its spans are lost.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Why the latest export did not reach the collector. The exporter's own error does not say it.
pub(super) type Reason = Arc<Mutex<Option<String>>>;

/// The client of the exporter.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    reason: Reason,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let answer = self.http.send_bytes(request).await;
        *self.reason.lock() = answer.as_ref().err().map(|error| causes(&**error));
        answer
    }
}

/// An error and its causes.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What goes to the collector.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) spans: mpsc::Receiver<SpanData>,
    pub(super) exporter: SpanExporter,
    pub(super) reason: Reason,
    /// Ends when the gateway stops.
    pub(super) stopped: oneshot::Receiver<()>,
}

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExporterError {
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    #[error("{0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Builds the exporter. It has the gateway's own TLS and follows no redirect.
///
/// # Errors
/// The HTTP client or the exporter refuses its settings.
pub(super) fn exporter(
    otlp: &OtlpSettings,
    tls: &Arc<ClientConfig>,
    reason: &Reason,
) -> Result<SpanExporter, ExporterError> {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured((**tls).clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(SEND)
        .build()?;
    let client = Client { http, reason: Arc::clone(reason) };
    let headers = otlp.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned()));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(otlp.endpoint.as_str())
        .with_headers(headers.collect())
        .with_timeout(SEND)
        // The library's own pauses block a thread.
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    Ok(exporter)
}

impl Export {
    /// Sends spans until the gateway stops, and then those that wait.
    pub(super) async fn run(mut self) {
        let (mut batch, mut refused) = (Vec::with_capacity(BATCH), false);
        let mut stopping = false;
        loop {
            tokio::select! {
                count = self.spans.recv_many(&mut batch, BATCH) => if count == 0 { return },
                _ = &mut self.stopped, if !stopping => {
                    stopping = true;
                    self.spans.close();
                    continue;
                }
            }
            if !stopping && self.gather(&mut batch).await {
                stopping = true;
                self.spans.close();
            }
            refused = self.send(&mut batch, refused).await;
        }
    }

    /// Waits a while for further spans. Returns whether the gateway stops.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) -> bool {
        let stopped = &mut self.stopped;
        let spans = &mut self.spans;
        let full =
            async { while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {} };
        tokio::select! {
            () = full => false,
            () = tokio::time::sleep(GATHER) => false,
            _ = stopped => true,
        }
    }

    /// Sends a batch, several times if need be. Returns whether the collector did not take it. The log says so when
    /// that begins and when it ends.
    async fn send(&self, batch: &mut Vec<SpanData>, refused: bool) -> bool {
        let count = batch.len() as u64;
        let mut pauses = PAUSES.into_iter();
        let error = loop {
            match self.exporter.export(batch.clone()).await {
                Ok(()) => {
                    COUNTS.exported.inc_by(count);
                    batch.clear();
                    if refused {
                        tracing::info!("the collector takes spans again");
                    }
                    return false;
                }
                Err(error) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => break error,
                },
            }
        };
        COUNTS.lost.inc_by(count);
        batch.clear();
        if !refused {
            let reason = self.reason.lock().take();
            let error = reason.unwrap_or_else(|| error.to_string());
            tracing::warn!(error, "the collector of tracing.otlp does not take spans: they are lost");
        }
        true
    }
}
