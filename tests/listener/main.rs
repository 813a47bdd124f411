//! Protocols and limits of the listener.

mod log;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame};
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::raw::{client, connect, trusting};
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode, Version};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REPOSITORY: &str = "admin/one";

async fn start(config: Value) -> Result<(Site, Gateway)> {
    let site = Site::start()?;
    let gateway = site.gateway(&config).await?;
    Ok((site, gateway))
}

/// The time until the gateway closes a connection.
async fn until_closed(mut stream: impl AsyncReadExt + Unpin) -> Result<Duration> {
    let start = Instant::now();
    let mut rest = Vec::new();
    // A reset also counts as an end.
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest));
    let _ = read.await.context("never closed")?;
    Ok(start.elapsed())
}

#[tokio::test]
async fn http_2_and_http_1_1_over_tls_1_3_and_1_2() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    let image = Spec::layers(1, &[400_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let url = format!("{}/v2/{REPOSITORY}/blobs/{}", gateway.url(), image.layers[0].digest);
    for (protocol, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let client = client(&gateway, protocol)?;
        for range in [None, Some("bytes=100-199")] {
            let mut request = client.get(&url).bearer_auth(&token);
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let answer = request.send().await?;
            assert_eq!(answer.version(), version);
            let whole = image.layers[0].bytes()?;
            let expected = if range.is_some() { whole.slice(100..200) } else { whole };
            assert_eq!(answer.bytes().await?, expected, "{protocol} {range:?}");
        }
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let root = std::fs::read_to_string(gateway.authority_file())?;
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[version])?
        .with_root_certificates(harness::certs::roots(&[&root])?)
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = connect(&gateway, config).await?;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_client_is_disconnected() -> Result<()> {
    let (_site, gateway) = start(json!({"timeouts": {"handshake": "1s", "headers": "1s"}})).await?;
    let silent = TcpStream::connect(gateway.address()).await?;
    assert!(until_closed(silent).await? < Duration::from_secs(10), "a handshake that does not start");
    for protocol in ["http/1.1", "h2"] {
        let idle = connect(&gateway, trusting(&gateway, protocol)?).await?;
        assert!(until_closed(idle).await? < Duration::from_secs(10), "no request on {protocol}");
    }
    let mut half = connect(&gateway, trusting(&gateway, "h2")?).await?;
    half.write_all(&PREFACE[..16]).await?;
    assert!(until_closed(half).await? < Duration::from_secs(10), "half a preface");
    let mut slow = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ").await?;
    assert!(until_closed(slow).await? < Duration::from_secs(10), "headers that do not end");
    // Between two requests, another timeout applies.
    let mut used = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    for _ in 0..2 {
        used.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        read_answer(&mut used).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    used.write_all(b"GET /v2/ HTTP/1.1\r\n").await?;
    assert!(until_closed(used).await? < Duration::from_secs(10), "headers of a later request");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_idle_for_long_is_closed() -> Result<()> {
    let (_site, gateway) = start(json!({"timeouts": {"idle": "1s"}})).await?;
    let mut used = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    used.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    read_answer(&mut used).await?;
    assert!(until_closed(used).await? < Duration::from_secs(20));
    Ok(())
}

/// Reads an answer with a `Content-Length`.
async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin)) -> Result<()> {
    let mut read = Vec::new();
    let end = loop {
        ensure!(stream.read_buf(&mut read).await? > 0, "the connection ended");
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r\n"));
    let length: usize = length.context("no length")?.0.parse()?;
    let mut body = vec![0; (end + length).saturating_sub(read.len())];
    stream.read_exact(&mut body).await?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused() -> Result<()> {
    let (site, gateway) = start(json!({"timeouts": {"client_stall": "1s"}})).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let mut stream = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    let head = format!(
        "PUT /v2/{REPOSITORY}/manifests/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer))
        .await
        .context("no answer")??;
    assert_eq!(&answer, b"HTTP/1.1 408");
    Ok(())
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected() -> Result<()> {
    let (site, gateway) = start(json!({"timeouts": {"client_stall": "1s"}})).await?;
    let image = Spec::layers(1, &[40_000_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let mut stream = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    let digest = image.layers[0].digest;
    let head = format!(
        "GET /v2/{REPOSITORY}/blobs/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    gateway.logged(&format!("method=GET path=\"/v2/{REPOSITORY}/blobs/{digest}\"")).await?;
    let mut taken = Vec::new();
    // The bytes in the kernel's buffers arrive. Then the connection ends before the body is complete.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut taken))
        .await
        .context("still open")?;
    assert!((taken.len() as u64) < image.layers[0].size);
    Ok(())
}

/// HTTP/2 has its own window, which a client can keep closed while it answers every ping.
#[tokio::test]
async fn an_http_2_client_with_a_closed_window_is_disconnected() -> Result<()> {
    let (_site, gateway) = start(json!({"timeouts": {"client_stall": "1s"}})).await?;
    let mut stream = connect(&gateway, trusting(&gateway, "h2")?).await?;
    // INITIAL_WINDOW_SIZE = 0.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    // GET https /v2/, authority x.
    let block = [0x82, 0x87, 0x04, 4, b'/', b'v', b'2', b'/', 0x01, 1, b'x'];
    let hello = [PREFACE, &settings, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)].concat();
    stream.write_all(&hello).await?;
    assert!(until_closed(stream).await? < Duration::from_secs(10));
    Ok(())
}

#[tokio::test]
async fn a_slow_but_steady_http_2_client_gets_the_whole_body() -> Result<()> {
    let (site, gateway) = start(json!({"timeouts": {"client_stall": "1s", "headers": "1s"}})).await?;
    let image = Spec::layers(1, &[6_000_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let client = client(&gateway, "h2")?;
    let url = format!("{}/v2/{REPOSITORY}/blobs/{}", gateway.url(), image.layers[0].digest);
    let mut answer = client.get(url).bearer_auth(token).send().await?;
    let mut taken = 0;
    // About 500 kB/s, for several times the timeout.
    while let Some(piece) = answer.chunk().await? {
        taken += piece.len() as u64;
        tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / 500_000.0)).await;
    }
    assert_eq!(taken, image.layers[0].size);
    Ok(())
}

/// The gateway would remove only the chunks, and the registry would store compressed bytes.
#[tokio::test]
async fn a_transfer_coding_besides_chunked_is_refused() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    for (coding, expected) in [("chunked", "HTTP/1.1 401"), ("gzip, chunked", "HTTP/1.1 501")] {
        let mut stream = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
        let head = format!(
            "POST /v2/{REPOSITORY}/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = vec![0; expected.len()];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer));
        read.await.context("no answer")??;
        assert_eq!(String::from_utf8_lossy(&answer), expected, "{coding}");
    }
    assert_eq!(site.quay.record().count(&Method::POST, "/v2/"), 1);
    Ok(())
}

/// Over HTTP/2, only the gateway itself removes the body from an answer to HEAD.
#[tokio::test]
async fn errors_answer_head_over_http_2() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    site.quay.down().await;
    let client = client(&gateway, "h2")?;
    let digest = backends::Digest::of(b"any");
    for path in [format!("/v2/{REPOSITORY}/blobs/{digest}"), "/v2/".to_owned()] {
        let answer = client.head(format!("{}{path}", gateway.url())).send().await?;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_above_the_limit_are_refused() -> Result<()> {
    let (site, gateway) = start(json!({"limits": {"requests": 1}})).await?;
    site.quay.set(|faults| faults.delay = Duration::from_secs(2));
    let client = gateway.client(None)?;
    let first = client.raw(Method::GET, "/v2/")?.send();
    let second = async {
        // The first request is in flight.
        while site.quay.record().count(&Method::GET, "/v2/") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.raw(Method::GET, "/v2/")?.send().await.context("an answer")
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first?.status(), StatusCode::UNAUTHORIZED);
    let second = second?;
    assert_eq!(
        (second.status(), &second.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse()?)
    );
    Ok(())
}

#[tokio::test]
async fn the_gateway_survives_a_lack_of_file_descriptors() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    let image = Spec::layers(1, &[10_000, 20_000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    client.pull(REPOSITORY, "v1").await?;
    let pid = gateway.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
    let limit = |files: u64| {
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(files), maximum: Some(4096) })
    };
    // Uses a connection that exists already.
    let (admin, zones) = (harness::http_client()?, format!("http://{}/zones", gateway.admin_address()));
    admin.get(&zones).send().await?.bytes().await?;
    limit(40)?;
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(TcpStream::connect(gateway.address()).await?);
    }
    let starved = async {
        while !gateway.log().contains("cannot accept a client") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), starved)
        .await
        .context("the descriptors did not run out")?;
    // The stores cannot be asked now, which is not their fault.
    let excused = async {
        loop {
            // Existing connections must not be reused.
            site.zones.iter().for_each(|zone| zone.proxy().cut());
            let zones: Value = serde_json::from_slice(&admin.get(&zones).send().await?.bytes().await?)?;
            let zones = zones["zones"].as_array().context("zones")?;
            if zones.iter().all(|zone| zone["counts"]["excused"].as_u64() > Some(2)) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), excused)
        .await
        .context("no probe lacked a descriptor")??;
    drop(held);
    limit(1024)?;
    assert!(!gateway.log().contains("zone is out of use"), "a zone was taken out of use");
    // The gateway serves as before. It has not dropped cached files that it could not open for a moment.
    site.zone("zone-a").proxy().down().await;
    for pulled in gateway.client(LOGIN)?.pull(REPOSITORY, "v1").await? {
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}

/// The sockets of this machine that are connected to `remote`: whether the kernel uses TCP keep-alive for
/// each (`timer_active` 2 of `/proc/net/tcp`, "Linux kernel documentation, networking/proc_net_tcp").
fn kept_alive(remote: u16) -> Result<Vec<bool>> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let to = format!(":{remote:04X}");
    let mine = rows.filter(|row| row.len() > 5 && row[2].ends_with(&to) && row[3] == ESTABLISHED);
    Ok(mine.map(|row| row[5].starts_with("02")).collect())
}

async fn until_kept_alive(remote: u16) -> Result<()> {
    let watched = async {
        // A socket with unacknowledged bytes has another timer.
        while kept_alive(remote)? != [true] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), watched).await.context("not kept alive")?
}

#[tokio::test]
async fn silent_connections_are_kept_alive() -> Result<()> {
    let (site, gateway) = start(json!({})).await?;
    let client = connect(&gateway, trusting(&gateway, "http/1.1")?).await?;
    let port = client.get_ref().0.local_addr()?.port();
    until_kept_alive(port).await.context("the client's")?;
    // A registry that does not answer a request.
    site.quay.set(|faults| faults.delay = Duration::from_secs(60));
    let asking = tokio::spawn(gateway.client(None)?.raw(Method::GET, "/v2/")?.send());
    let registry = site.quay.url().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let registry = registry.context("the registry's port")?;
    until_kept_alive(registry).await.context("the registry's")?;
    asking.abort();
    Ok(())
}

async fn ready(gateway: &Gateway) -> Result<StatusCode> {
    let url = format!("http://{}/readyz", gateway.admin_address());
    Ok(harness::http_client()?.get(url).send().await?.status())
}

/// A load balancer learns about the end only after some seconds.
#[tokio::test]
async fn new_clients_are_served_for_a_while_after_sigterm() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({"timeouts": {"lame_duck": "5m"}})).await?;
    assert_eq!(ready(&gateway).await?, StatusCode::OK);
    gateway.signal(Signal::TERM)?;
    let told = async {
        while ready(&gateway).await? != StatusCode::SERVICE_UNAVAILABLE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), told)
        .await
        .context("the gateway still reports ready")??;
    let answer = gateway.client(None)?.raw(Method::GET, "/v2/")?.send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "from the registry, on a new connection");
    // A second signal ends the wait.
    assert!(gateway.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn an_endless_drain_is_cut_in_time() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({"timeouts": {"drain": "1s"}})).await?;
    let image = Spec::layers(1, &[2_000_000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    site.zone("zone-a").proxy().set(|faults| faults.bandwidth = Some(20_000));
    let digest = image.layers[0].digest;
    let pull = tokio::spawn(async move { client.pull_blob(REPOSITORY, &digest).await });
    while site.zone("zone-a").proxy().record().reads(&digest.hex()).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(gateway.terminate().await?.success());
    // The pull would have taken more than a minute.
    assert!(pull.await?.is_err());
    Ok(())
}
