//! The page's files and its stream, without a browser.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::site::LOGIN;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{Fixture, REPOSITORY, SOON};

/// The gateway's own bound.
const SUBSCRIBERS_MAX: usize = 16;

/// An open stream.
struct Subscriber {
    answer: reqwest::Response,
    text: String,
}

impl Subscriber {
    async fn connect(fixture: &Fixture) -> Result<Self> {
        let url = format!("{}api/v1/live", fixture.url());
        let answer = harness::http_client()?.get(url).send().await?.error_for_status()?;
        ensure!(answer.headers()["content-type"] == "text/event-stream");
        Ok(Self { answer, text: String::new() })
    }

    /// The data of the next event of this name that `wanted` accepts.
    async fn next(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.strip_prefix(&format!("event: {name}\ndata: "));
                let data: Option<Value> = data.map(serde_json::from_str).transpose()?;
                self.text = rest.to_owned();
                if let Some(data) = data.filter(&wanted) {
                    return Ok(data);
                }
            }
            ensure!(Instant::now() < deadline, "no {name}");
            let piece =
                tokio::time::timeout(SOON, self.answer.chunk()).await??.context("the stream has ended")?;
            self.text.push_str(std::str::from_utf8(&piece)?);
        }
    }
}

#[tokio::test]
async fn a_request_is_told_without_its_query_and_secrets() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut subscriber = Subscriber::connect(&fixture).await?;
    let snapshot = subscriber.next("snapshot", |_| true).await?;
    ensure!(snapshot["zones"].as_array().map(Vec::len) == Some(3), "{snapshot:#}");
    for part in ["trends", "queue", "registry", "cache", "traffic", "certificates", "limits", "gateway"] {
        ensure!(snapshot.get(part).is_some(), "{part}: {snapshot:#}");
    }
    ensure!(!snapshot.to_string().contains("secret"), "{snapshot:#}");
    let client = fixture.gateway.client(LOGIN)?;
    let target = format!("/v2/{REPOSITORY}/tags/list?n=1&token=hush");
    client.fetch(Method::GET, &target, &[("authorization", "Bearer hush")]).await?;
    let told = subscriber
        .next("request", |request| request["path"].as_str().is_some_and(|path| path.ends_with("/tags/list")))
        .await?;
    ensure!(!told.to_string().contains("hush"), "{told:#}");
    ensure!(told["path"] == format!("/v2/{REPOSITORY}/tags/list") && told["method"] == "GET", "{told:#}");
    Ok(())
}

#[tokio::test]
async fn subscribers_are_few_and_their_places_come_back() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut all = Vec::new();
    for _ in 0..SUBSCRIBERS_MAX {
        all.push(Subscriber::connect(&fixture).await?);
    }
    let url = format!("{}api/v1/live", fixture.url());
    let refused = harness::http_client()?.get(&url).send().await?;
    ensure!(refused.status() == StatusCode::SERVICE_UNAVAILABLE);
    ensure!(refused.text().await?.contains("too_many_subscribers"));
    drop(all.pop());
    let deadline = Instant::now() + SOON;
    while Subscriber::connect(&fixture).await.is_err() {
        ensure!(Instant::now() < deadline, "its place is not free again");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_event_is_kept_for_the_next_subscriber() -> Result<()> {
    let fixture = Fixture::start().await?;
    let is_of_b = |event: &Value| event["subject"] == "zone-b";
    let output = fixture.gateway.command(&["zones", "drain", "zone-b"]).await?;
    ensure!(output.status.success());
    let first = Subscriber::connect(&fixture).await?.next("event", is_of_b).await?;
    let second = Subscriber::connect(&fixture).await?.next("event", is_of_b).await?;
    ensure!(first == second && first["level"] == "info" && first["text"] == "zone-b is drained", "{first:#}");
    Ok(())
}

#[tokio::test]
async fn the_page_is_for_known_hosts_and_has_a_strict_policy() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = harness::http_client()?;
    for path in ["", "ui/main.js", "ui/page.css"] {
        let url = format!("{}{path}", fixture.url());
        let answer = client.get(&url).send().await?.error_for_status()?;
        let policy = answer.headers()["content-security-policy"].to_str()?;
        ensure!(policy.starts_with("default-src 'self'; ") && !policy.contains("unsafe"), "{policy}");
        ensure!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let foreign = client.get(&url).header("host", "evil.example.com:9090").send().await?;
        ensure!(foreign.status() == StatusCode::FORBIDDEN, "{path}");
        let head = client.head(&url).send().await?;
        ensure!(head.status() == StatusCode::OK && head.bytes().await?.is_empty(), "{path}");
        ensure!(client.post(&url).send().await?.status().is_client_error(), "{path}");
    }
    let foreign = client.get(format!("{}api/v1/live", fixture.url())).header("host", "evil.example.com:9090");
    ensure!(foreign.send().await?.status() == StatusCode::FORBIDDEN);
    Ok(())
}
