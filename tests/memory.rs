//! `limits.memory`: how much memory clients can make the gateway use.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use harness::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, field, frame};
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::raw::{connect, trusting};
use harness::site::{LOGIN, Site};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const REPOSITORY: &str = "admin/one";
const MIB: u64 = 1024 * 1024;

/// The value of a metric.
async fn metric(gateway: &Gateway, name: &str) -> Result<u64> {
    let url = format!("http://{}/metrics", gateway.admin_address());
    let text = harness::http_client()?.get(url).send().await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map_or(0, |value| value.parse().unwrap_or(0)))
}

async fn until(gateway: &Gateway, name: &str, is: impl Fn(u64) -> bool) -> Result<()> {
    let mut last = 0;
    let waited = async {
        while !is(last) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            last = metric(gateway, name).await?;
        }
        Ok(())
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), waited).await;
    ended.with_context(|| format!("{name} is still {last}"))?
}

/// The memory of the gateway's process in bytes, without files.
fn resident(gateway: &Gateway) -> Result<u64> {
    let id = gateway.id().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Requests a blob on as many streams of one connection as are allowed, with windows of 2 GiB, and reads
/// nothing.
async fn ask_and_read_nothing(gateway: &Gateway, path: &str, token: &str) -> Result<TlsStream<TcpStream>> {
    let mut stream = connect(gateway, trusting(gateway, "h2")?).await?;
    let mut hello = PREFACE.to_vec();
    // SETTINGS: INITIAL_WINDOW_SIZE; then WINDOW_UPDATE of the connection.
    hello.extend(frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    hello.extend(frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()));
    for stream in 0..128 {
        let mut block = Vec::new();
        let authorization = format!("Bearer {token}");
        for (name, value) in [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        {
            field(&mut block, name, value);
        }
        field(&mut block, "authorization", &authorization);
        hello.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream * 2 + 1, &block));
    }
    stream.write_all(&hello).await?;
    Ok(stream)
}

#[tokio::test]
async fn unread_streams_use_little_memory_and_return_it() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[4_000_000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    client.pull(REPOSITORY, "v1").await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
    let before = (
        resident(&gateway)?,
        metric(&gateway, "quay_gateway_memory_reserved_bytes{use=\"requests\"}").await?,
    );
    let answered = "quay_gateway_requests_total{route=\"blob\",status=\"200\"}";
    let begun = metric(&gateway, answered).await?;
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(ask_and_read_nothing(&gateway, &path, &token).await?);
    }
    until(&gateway, answered, |count| count >= begun + 4 * 128).await?;
    let grown = resident(&gateway)?.saturating_sub(before.0);
    // The state of a request, the first pieces of its answer, and its share of the connection.
    assert!(grown < 4 * 16 * MIB, "{grown} bytes for four connections that read nothing");
    drop(unread);
    let reserved = "quay_gateway_memory_reserved_bytes{use=\"requests\"}";
    until(&gateway, reserved, |bytes| bytes <= before.1).await?;
    // The memory is also returned to the system.
    let given_back = async {
        while resident(&gateway)?.saturating_sub(before.0) > grown / 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), given_back).await;
    waited.with_context(|| format!("more than half of {grown} bytes stays with the process"))?
}

/// A manifest of the largest size that Quay's nginx accepts, without its last byte.
async fn half_a_manifest(gateway: &Gateway, token: &str, tag: usize) -> Result<TlsStream<TcpStream>> {
    let mut stream = connect(gateway, trusting(gateway, "http/1.1")?).await?;
    let mut head = format!("PUT /v2/{REPOSITORY}/manifests/{tag} HTTP/1.1\r\nHost: x\r\n");
    write!(head, "Authorization: Bearer {token}\r\nContent-Length: {MIB}\r\n\r\n{{")?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b' '; usize::try_from(MIB)? - 2]).await?;
    Ok(stream)
}

/// Three times the size of a manifest.
const RESERVED: u64 = 3 * MIB;

#[tokio::test]
async fn requests_above_the_budget_are_refused_until_there_is_room() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"limits": {"memory": "32MiB"}})).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let reserved = "quay_gateway_memory_reserved_bytes{use=\"manifests\"}";
    let refused = "quay_gateway_memory_refused_total{use=\"manifests\"}";
    let mut held = Vec::new();
    let mut over = loop {
        let manifest = half_a_manifest(&gateway, &token, held.len()).await?;
        let with_it = (held.len() as u64 + 1) * RESERVED;
        while metric(&gateway, reserved).await? < with_it && metric(&gateway, refused).await? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if metric(&gateway, refused).await? > 0 {
            break manifest;
        }
        held.push(manifest);
    };
    // One client leaves a part to others, however many connections it has.
    assert!((5..10).contains(&held.len()), "{} manifests of one client", held.len());
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            over.read_buf(&mut answer).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.context("no answer")??;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(metric(&gateway, "quay_gateway_memory_budget_bytes").await?, 32 * MIB);
    gateway.logged("limits.memory has no room").await?;
    drop(held);
    until(&gateway, reserved, |bytes| bytes == 0).await?;
    let _another = half_a_manifest(&gateway, &token, 99).await?;
    until(&gateway, reserved, |bytes| bytes == RESERVED).await?;
    Ok(())
}

/// A head in HTTP/2 that stays whole in the header table of its connection (RFC 7541 6.2.1: literal,
/// indexed). It contains a path of one byte, so the gateway itself answers it with 400.
fn kept_head(stream: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "https")] {
        field(&mut block, name, value);
    }
    field(&mut block, ":authority", &"a".repeat(16_000));
    block.extend(b"\x44\x01/");
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

#[tokio::test]
async fn heads_that_stay_in_memory_are_reserved_and_bounded() -> Result<()> {
    const CONNECTIONS: u64 = 16;
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let before = resident(&gateway)?;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&gateway, trusting(&gateway, "h2")?).await?;
        stream.write_all(PREFACE).await?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        // If the gateway closes the connection, writing fails.
        for number in 0..107 {
            if stream.write_all(&kept_head(number * 2 + 1)).await.is_err() {
                break;
            }
        }
        let mut answers = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answers)).await;
        assert!(ended.is_ok(), "it may stay, with {} MiB of heads", 107 * 16 / 1024);
        held.push(stream);
    }
    let grown = resident(&gateway)?.saturating_sub(before);
    assert!(grown < CONNECTIONS * MIB, "{grown} bytes for {CONNECTIONS} connections");
    Ok(())
}

/// A connection is used for some thousand requests. Then its client continues with another one, and notices
/// nothing.
#[tokio::test]
async fn a_client_with_thousands_of_requests_sees_none_fail() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let client = harness::raw::client(&gateway, "h2")?;
    let url = format!("{}/v2/", gateway.url());
    let ask = |number: u64| {
        let (client, url) = (&client, &url);
        // A header that no header table shortens.
        let asked = client.get(url).header("x-request-id", format!("{number:0100}"));
        async move { anyhow::Ok(asked.send().await?.status()) }
    };
    let all = futures_util::stream::iter((0..5000).map(ask)).buffer_unordered(16);
    let statuses: Vec<_> = all.try_collect().await?;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert!(metric(&gateway, "quay_gateway_connections_renewed_total").await? > 0);
    Ok(())
}
