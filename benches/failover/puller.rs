//! A client that measures when each byte arrives.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::Hasher;
use bytes::Bytes;
use harness::client::Client;
use http::header::LOCATION;
use http::{Method, StatusCode};

use crate::fixture::{Item, REPOSITORY};
use crate::sample::Sample;

/// A request that is not complete after this time is aborted and counts as failed.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(10);

/// A client of the gateway, or of Quay, whose redirects to a store it follows.
#[derive(Debug)]
pub(crate) struct Puller {
    client: Client,
}

/// The times of one request.
struct Times {
    began: Instant,
    first: Option<Duration>,
    last: Instant,
    stall: Duration,
}

impl Puller {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Requests a blob and reads it to its end.
    pub(crate) async fn get(&self, item: &Item) -> Sample {
        let began = Instant::now();
        let mut times = Times { began, first: None, last: began, stall: Duration::ZERO };
        let read = tokio::time::timeout(GIVE_UP, self.read(item, &mut times)).await;
        let failed = match read {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => {
                times.wait_ended();
                Some(format!("not complete within {GIVE_UP:?}"))
            }
        };
        let Times { began, first, stall, .. } = times;
        Sample { began, first_byte: first, stall, ended: Instant::now(), failed }
    }

    async fn read(&self, item: &Item, times: &mut Times) -> Result<()> {
        let path = path(item);
        let mut answer = self.client.send(Method::GET, &path, &[], Bytes::new()).await?;
        if answer.status() == StatusCode::FOUND {
            let location =
                answer.headers().get(LOCATION).context("a redirect to nowhere")?.to_str()?.to_owned();
            let store = self.client.raw(Method::GET, &location)?;
            answer = store.send().await.map_err(reqwest::Error::without_url)?;
        }
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        if let Some(status) = answer.headers().get("cache-status") {
            let status = status.to_str()?;
            ensure!(
                status.contains("fwd=miss") && !status.contains("collapsed"),
                "the cache helped: {status}"
            );
        }
        let mut hasher = Hasher::new();
        while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            times.byte();
            hasher.update(&piece);
        }
        ensure!(hasher.finish() == item.digest, "WRONG BYTES");
        Ok(())
    }

    /// How long the registry takes to answer whether a client may read a blob. A gateway asks this before
    /// each read.
    pub(crate) async fn head(&self, item: &Item) -> Option<Duration> {
        let began = Instant::now();
        let answer = self.client.send(Method::HEAD, &path(item), &[], Bytes::new()).await.ok()?;
        (answer.status() == StatusCode::OK).then(|| began.elapsed())
    }
}

impl Times {
    fn byte(&mut self) {
        self.wait_ended();
        self.first.get_or_insert_with(|| self.began.elapsed());
        self.last = Instant::now();
    }

    /// Records the wait since the last byte, if there was one.
    fn wait_ended(&mut self) {
        if self.first.is_some() {
            self.stall = self.stall.max(self.last.elapsed());
        }
    }
}

fn path(item: &Item) -> String {
    format!("/v2/{REPOSITORY}/blobs/{}", item.digest)
}
