//! No client takes resources from others: shared resources are distributed, and slow or absent clients cost
//! little.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use harness::client::Client;
use harness::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, read_frame,
};
use harness::gateway::{Gateway, overlay};
use harness::image::Spec;
use harness::raw::{client, connect, trusting};
use harness::site::{LOGIN, Site, USER};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::TcpStream;

const REPOSITORY: &str = "admin/one";
/// The timeout of all waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// The delay of a registry that does not answer during the test.
const NEVER: Duration = Duration::from_secs(300);
/// More bytes than the sockets of two connections can hold.
const LARGE: usize = 32 * 1024 * 1024;

async fn start(config: Value) -> Result<(Site, Gateway)> {
    let site = Site::start()?;
    let mut config = config;
    // Only the requests of the test take slots.
    overlay(&mut config, &json!({"auth": {"verify_tokens": false}}));
    let gateway = site.gateway(&config).await?;
    Ok((site, gateway))
}

/// Waits until a line of the log or of the metrics appears.
async fn until(what: &str, said: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let look = async {
        while !said().await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, look).await.with_context(|| format!("never: {what}"))?
}

async fn metric(gateway: &Gateway, name: &str) -> Result<Option<f64>> {
    let url = format!("http://{}/metrics", gateway.admin_address());
    let text = harness::http_client()?.get(url).send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("quay_gateway_{name} ")));
    Ok(line.map(str::parse).transpose()?)
}

fn put(length: usize) -> String {
    format!("PUT /v2/{REPOSITORY}/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_request_that_sends_nothing_uses_nothing() -> Result<()> {
    let config = json!({"limits": {"registry_connections": 1}, "timeouts": {"queue_wait": "200ms"}});
    let (_site, gateway) = start(config).await?;
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
        stream.write_all(put(100).as_bytes()).await?;
        silent.push(stream);
    }
    let waiting = "pool_in_use{pool=\"limits.requests\"}";
    until("three requests are in flight", async || Ok(metric(&gateway, waiting).await? == Some(3.0))).await?;
    let answer = gateway.client(None)?.raw(Method::GET, "/v2/")?.send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "the registry's own answer");
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_slow_is_refused() -> Result<()> {
    let config = json!({"limits": {"request_rate": "1MiB"}, "timeouts": {"client_stall": "1s"}});
    let (site, gateway) = start(config).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    for protocol in ["http/1.1", "h2"] {
        let trickle = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"a")), ()))
        });
        let url = format!("{}/v2/{REPOSITORY}/manifests/v1", gateway.url());
        let request = client(&gateway, protocol)?.put(url).bearer_auth(&token);
        let sent = request.body(reqwest::Body::wrap_stream(trickle.boxed())).send();
        let answer = tokio::time::timeout(PATIENCE, sent).await.context("no answer")??;
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT, "{protocol}");
        assert!(answer.text().await?.contains("limits.request_rate"));
    }
    Ok(())
}

/// Over HTTP/1.1, hyper does not poll the end of a body after all promised bytes were sent.
#[tokio::test]
async fn a_streamed_blob_is_logged_as_whole() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    let image = Spec::layers(1, &[100_000, 200_000]).build()?;
    Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let token = site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
    for (layer, protocol) in image.layers.iter().zip(["http/1.1", "h2"]) {
        let url = format!("{}/v2/{REPOSITORY}/blobs/{}", gateway.url(), layer.digest);
        let answer = client(&gateway, protocol)?.get(url).bearer_auth(&token).send().await?;
        assert_eq!(answer.bytes().await?, layer.bytes()?);
        let digest = layer.digest.to_string();
        let line = || {
            gateway
                .log()
                .lines()
                .find(|line| line.contains("end=") && line.contains(&digest))
                .map(str::to_owned)
        };
        until("it is logged", async || Ok(line().is_some())).await?;
        assert!(line().is_some_and(|line| line.contains("end=\"whole\"")), "{protocol}: {:?}", line());
    }
    Ok(())
}

/// A manifest continues although its client left, so its place in `limits.requests` stays in use.
#[tokio::test]
async fn a_manifest_that_outlives_its_client_keeps_its_slot() -> Result<()> {
    let (site, gateway) = start(json!({"limits": {"requests": 1}})).await?;
    site.quay.set(|faults| faults.delay = NEVER);
    let mut leaver = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    leaver.write_all(put(2).as_bytes()).await?;
    leaver.write_all(b"{}").await?;
    let busy = "pool_in_use{pool=\"limits.registry_connections\"}";
    until("the registry is asked", async || Ok(metric(&gateway, busy).await? == Some(1.0))).await?;
    drop(leaver);
    // The request is logged and counted.
    let left = "requests_total{route=\"manifest-put\",status=\"499\"}";
    until("it is counted", async || Ok(metric(&gateway, left).await? == Some(1.0))).await?;
    gateway.logged("status=499").await?;
    let line = gateway.log().lines().find(|line| line.contains("status=499")).map(str::to_owned);
    let line = line.context("it is not logged")?;
    assert!(line.contains("received=2") && line.contains("client left before the answer"), "{line}");
    let answer = gateway.client(None)?.raw(Method::GET, "/v2/")?.send().await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(metric(&gateway, busy).await?, Some(1.0));
    Ok(())
}

#[tokio::test]
async fn an_http_2_request_whose_client_leaves_is_counted() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    site.quay.set(|faults| faults.delay = NEVER);
    let url = format!("{}/v2/", gateway.url());
    let asking = tokio::spawn(client(&gateway, "h2")?.get(url).send());
    let busy = "pool_in_use{pool=\"limits.registry_connections\"}";
    until("the registry is asked", async || Ok(metric(&gateway, busy).await? == Some(1.0))).await?;
    asking.abort();
    let left = "requests_total{route=\"forward\",status=\"499\"}";
    until("it is counted", async || Ok(metric(&gateway, left).await? == Some(1.0))).await?;
    until("its place is free", async || Ok(metric(&gateway, busy).await? == Some(0.0))).await
}

/// One connection with many requests has half of the slots. Another connection is served at once.
#[tokio::test]
async fn a_greedy_connection_leaves_room() -> Result<()> {
    let config = json!({"limits": {"registry_connections": 4}, "timeouts": {"queue_wait": "500ms"}});
    let (site, gateway) = start(config).await?;
    site.quay.set(|faults| faults.delay = NEVER);
    let greedy = client(&gateway, "h2")?;
    let url = format!("{}/v2/", gateway.url());
    let asking: Vec<_> = (0..10).map(|_| tokio::spawn(greedy.get(&url).send())).collect();
    let refused = "pool_refused_total{pool=\"limits.registry_connections\"}";
    until("eight are refused", async || Ok(metric(&gateway, refused).await? == Some(8.0))).await?;
    gateway.logged("pool=\"limits.registry_connections\"").await?;
    site.quay.set(|faults| faults.delay = Duration::ZERO);
    let answer = gateway.client(None)?.raw(Method::GET, "/v2/")?.send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Sends everything before it reads anything. Returns the first line of the answer.
async fn send_then_read(gateway: &Gateway, head: &str) -> Result<String> {
    let stream = connect(gateway, trusting(gateway, "http/1.1")?).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    let exchange = async {
        write.write_all(head.as_bytes()).await.context("sending the head")?;
        let piece = vec![b'a'; 1024 * 1024];
        for _ in 0..LARGE / piece.len() {
            write.write_all(&piece).await.context("sending the body")?;
        }
        let mut answer = [0; 12];
        read.read_exact(&mut answer).await.context("reading the answer")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("no answer")?
}

#[tokio::test]
async fn an_early_refusal_reaches_the_client() -> Result<()> {
    let (site, gateway) = start(json!({"limits": {"requests": 1}})).await?;
    let head = format!(
        "PATCH /v2/{REPOSITORY}/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n"
    );
    assert_eq!(
        send_then_read(&gateway, &head).await?,
        "HTTP/1.1 401",
        "by the registry, which reads no body"
    );
    site.quay.set(|faults| faults.delay = NEVER);
    let asking = tokio::spawn(gateway.client(None)?.raw(Method::GET, "/v2/")?.send());
    let busy = "pool_in_use{pool=\"limits.requests\"}";
    until("one request is in flight", async || Ok(metric(&gateway, busy).await? == Some(1.0))).await?;
    assert_eq!(send_then_read(&gateway, &head).await?, "HTTP/1.1 503", "by the gateway");
    asking.abort();
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_makes_room() -> Result<()> {
    let (_site, gateway) = start(json!({"limits": {"connections": 2}})).await?;
    let mut first = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    let second = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    let third = connect(&gateway, trusting(&gateway, "http/1.1")?);
    let third = tokio::time::timeout(Duration::from_secs(5), third).await.context("it waits")??;
    // A reset also counts as an end.
    let closed = tokio::time::timeout(PATIENCE, first.read_u8()).await.context("the oldest stays")?;
    assert!(closed.is_err());
    assert!(metric(&gateway, "connections_shed_total").await? >= Some(1.0));
    drop((second, third));
    Ok(())
}

/// One client holds all slots, and comes once more.
#[tokio::test]
async fn idle_connections_of_every_kind_make_room() -> Result<()> {
    const HELD: u16 = 8;
    let (_site, gateway) = start(json!({"limits": {"connections": HELD}})).await?;
    let url = format!("{}/v2/", gateway.url());
    let in_use = "pool_in_use{pool=\"limits.connections\"}";
    let full = async || Ok(metric(&gateway, in_use).await? == Some(f64::from(HELD)));
    let ask = async |protocol| {
        let client = client(&gateway, protocol)?;
        let answer = tokio::time::timeout(Duration::from_secs(5), client.get(&url).send());
        answer.await.context("it waits")??;
        anyhow::Ok(client)
    };
    let (mut bare, mut silent, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..HELD {
        bare.push(TcpStream::connect(gateway.address()).await?);
    }
    until("connections without a handshake hold all slots", full).await?;
    ask("http/1.1").await.context("after connections without a handshake")?;
    for protocol in ["http/1.1", "h2"] {
        for _ in 0..HELD {
            silent.push(connect(&gateway, trusting(&gateway, protocol)?).await?);
        }
        ask(protocol).await.with_context(|| format!("after {protocol} without a request"))?;
        for _ in 0..HELD {
            used.push(ask(protocol).await?);
        }
        ask(protocol).await.with_context(|| format!("after {protocol} with a request"))?;
    }
    assert!(metric(&gateway, "connections_shed_total").await? >= Some(f64::from(HELD)));
    drop((bare, silent, used));
    Ok(())
}

#[tokio::test]
async fn a_busy_connection_stays() -> Result<()> {
    let (site, gateway) = start(json!({"limits": {"connections": 2}})).await?;
    site.quay.set(|faults| faults.delay = NEVER);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        busy.push(stream);
    }
    let in_use = "pool_in_use{pool=\"limits.requests\"}";
    until("both are busy", async || Ok(metric(&gateway, in_use).await? == Some(2.0))).await?;
    let third = tokio::spawn({
        let tls = trusting(&gateway, "http/1.1")?;
        let address = gateway.address();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("localhost")?;
            anyhow::Ok(tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls)).connect(name, tcp).await?)
        }
    });
    let waiting = "pool_waiting{pool=\"limits.connections\"}";
    until("the third waits", async || Ok(metric(&gateway, waiting).await? == Some(1.0))).await?;
    assert_eq!(metric(&gateway, in_use).await?, Some(2.0));
    drop(busy.pop());
    tokio::time::timeout(PATIENCE, third).await.context("the third client got no slot")???;
    Ok(())
}

/// Two requests of one connection are one client. If it leaves, it must not evict what others request.
#[tokio::test]
async fn requests_of_one_connection_that_leave_evict_nothing() -> Result<()> {
    let (site, gateway) = start(json!({"cache": {"size": "16MiB"}})).await?;
    let user = gateway.client(LOGIN)?;
    let twelve = Spec::layers(1, &[1_000_000; 12]).build()?;
    let large = Spec::layers(2, &[13_000_000]).build()?;
    for (tag, image) in [("twelve", &twelve), ("large", &large)] {
        user.push(REPOSITORY, tag, image).await?;
    }
    user.pull(REPOSITORY, "twelve").await?;
    let digest = large.layers[0].digest;
    for zone in &site.zones {
        // Both requests are there before the blob is open, and neither is served to its end.
        zone.proxy().set(|faults| faults.latency = Duration::from_millis(300));
        drop(zone.proxy().hold(&digest.hex(), 4_000_000));
    }
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let connection = client(&gateway, "h2")?;
    let url = format!("{}/v2/{REPOSITORY}/blobs/{digest}", gateway.url());
    let ask = || connection.get(&url).bearer_auth(&token).send();
    let (first, second) = tokio::try_join!(ask(), ask())?;
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    drop((first, second, connection));
    let in_use = "pool_in_use{pool=\"limits.requests\"}";
    until("both have left", async || Ok(metric(&gateway, in_use).await? == Some(0.0))).await?;
    site.zones.iter().for_each(|zone| zone.proxy().set(|faults| faults.body = None));
    until("no fill is left", async || Ok(gateway.status().await?["cache"]["fills"] == 0)).await?;
    for layer in &twelve.layers {
        let pulled = user.pull_blob(REPOSITORY, &layer.digest).await?;
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}

/// Health probes are answered whatever other connections there are.
#[tokio::test]
async fn health_is_answered_beside_idle_connections() -> Result<()> {
    let (_site, gateway) = start(json!({})).await?;
    let healthy = async || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(gateway.admin_address()).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut answer = [0; 12];
        // Idle connections end after 30 s.
        tokio::time::timeout(Duration::from_secs(15), stream.read_exact(&mut answer))
            .await
            .context("late")??;
        assert_eq!(&answer, b"HTTP/1.1 200");
        Ok(stream)
    };
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(gateway.admin_address()).await?);
    }
    for _ in 0..100 {
        held.push(healthy().await?);
    }
    Ok(())
}

/// RFC 9113 section 8.1: the complete answer, then RST_STREAM with NO_ERROR.
#[tokio::test]
async fn an_early_refusal_reaches_the_client_over_http_2() -> Result<()> {
    let (_site, gateway) = start(json!({})).await?;
    let mut stream = connect(&gateway, trusting(&gateway, "h2")?).await?;
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/x");
    // PATCH https path, authority x; literal fields (RFC 7541 section 6.2.2).
    let mut block = vec![0x02, 5];
    block.extend(b"PATCH");
    block.extend([0x87, 0x04, u8::try_from(path.len())?]);
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'x']);
    // DATA that is not the last follows.
    let head = frame(HEADERS, END_HEADERS, 1, &block);
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &head, &frame(DATA, 0, 1, b"abc")].concat();
    stream.write_all(&hello).await?;
    let exchange = async {
        let mut ended = false;
        loop {
            match read_frame(&mut stream).await? {
                Frame { kind: RST_STREAM, stream: 1, payload, .. } => return anyhow::Ok((ended, payload)),
                Frame { kind: DATA | HEADERS, flags, stream: 1, .. } if flags & END_STREAM != 0 => {
                    ended = true
                }
                _ => {}
            }
        }
    };
    let (ended, code) = tokio::time::timeout(PATIENCE, exchange).await.context("no end")??;
    assert!(ended, "the stream was reset before the answer's end");
    assert_eq!(code, [0; 4], "NO_ERROR");
    Ok(())
}

#[tokio::test]
async fn a_trusted_proxy_reports_its_clients() -> Result<()> {
    let (site, gateway) = start(json!({"trusted_proxies": ["127.0.0.0/8"]})).await?;
    let request = gateway.client(None)?.raw(Method::GET, "/v2/")?;
    request.header("x-forwarded-for", "198.51.100.9, 192.0.2.7").send().await?;
    let seen = site.quay.record().of(&Method::GET, "/v2/");
    assert_eq!(seen.last().context("asked")?.header("x-forwarded-for"), "192.0.2.7");
    gateway.logged("client=192.0.2.7").await
}
