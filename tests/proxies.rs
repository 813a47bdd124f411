//! Proxies in front of the gateway that name their clients with the PROXY protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::raw::trusting;
use harness::site::{LOGIN, PASSWORD, Site, USER};
use http::Method;
use real_servers::{HaProxy, ImageDir, Login, Packing, Part, Skopeo, Types, free_port};
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The address of the trusted proxy. The tests themselves use 127.0.0.1.
const PROXY: &str = "127.0.0.2";
const PATIENCE: Duration = Duration::from_secs(60);

/// 192.0.2.7:4711 connects to 192.0.2.1:443, with a field of three bytes that nobody knows.
const NAMES_A_CLIENT: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc0\0\x02\x07\xc0\0\x02\x01\x12\x67\x01\xbb\xe0\0\x03abc";
/// A check of the proxy itself.
const FOR_ITSELF: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const VERSION_3: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x31\0\0\0";
const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";

async fn start() -> Result<(Site, Gateway)> {
    let site = Site::start()?;
    // The second is the network of the client that the header names.
    let trusted = [PROXY, "192.0.2.0/24"];
    let gateway = site.gateway(&json!({"proxy_protocol": true, "trusted_proxies": trusted})).await?;
    Ok((site, gateway))
}

/// Connects from this address, and sends these bytes before TLS.
async fn connect(gateway: &Gateway, from: &str, header: &[u8]) -> Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse()?, 0))?;
    let mut stream = socket.connect(gateway.address()).await?;
    stream.write_all(header).await?;
    let tls = TlsConnector::from(Arc::new(trusting(gateway, "http/1.1")?));
    let connecting = tls.connect(ServerName::try_from("localhost")?, stream);
    Ok(tokio::time::timeout(PATIENCE, connecting).await.context("the gateway does not answer")??)
}

/// Sends a request to `/v2/` and returns the client's address as the registry gets it.
async fn forwarded_for(site: &Site, mut stream: TlsStream<TcpStream>) -> Result<String> {
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("no answer")??;
    ensure!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
    let seen = site.quay.record().of(&Method::GET, "/v2/");
    Ok(seen.last().context("not asked")?.header("x-forwarded-for").to_owned())
}

/// A client that the header names is no proxy, whatever its address is, so it cannot name another client.
#[tokio::test]
async fn the_client_that_a_trusted_proxy_names_is_the_client() -> Result<()> {
    let (site, gateway) = start().await?;
    let named = connect(&gateway, PROXY, NAMES_A_CLIENT).await?;
    assert_eq!(forwarded_for(&site, named).await?, "192.0.2.7");
    gateway.logged("client=192.0.2.7").await
}

/// The proxy itself is trusted, so its own requests may name a client in `X-Forwarded-For`.
#[tokio::test]
async fn a_proxy_may_speak_for_itself() -> Result<()> {
    let (site, gateway) = start().await?;
    let of_proxy = connect(&gateway, PROXY, FOR_ITSELF).await?;
    assert_eq!(forwarded_for(&site, of_proxy).await?, "203.0.113.1");
    Ok(())
}

#[tokio::test]
async fn the_header_is_demanded_from_trusted_proxies_and_refused_from_others() -> Result<()> {
    let (site, gateway) = start().await?;
    for header in [&b""[..], VERSION_1, VERSION_3] {
        assert!(connect(&gateway, PROXY, header).await.is_err(), "{header:?}");
    }
    gateway.logged("a trusted proxy named no client").await?;
    assert!(connect(&gateway, "127.0.0.1", NAMES_A_CLIENT).await.is_err());
    let own = connect(&gateway, "127.0.0.1", b"").await?;
    assert_eq!(forwarded_for(&site, own).await?, "127.0.0.1");
    let metrics = gateway.metrics().await?;
    assert!(metrics.contains("handshakes_failed_total{why=\"proxy-header\"} 3"), "{metrics}");
    Ok(())
}

/// Some balancers send the header with the first bytes of their client, which may be silent.
#[tokio::test]
async fn silent_clients_of_a_proxy_do_not_shut_out_the_others() -> Result<()> {
    let (site, gateway) = start().await?;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(PROXY.parse()?, 0))?;
        silent.push(socket.connect(gateway.address()).await?);
    }
    let named = connect(&gateway, PROXY, NAMES_A_CLIENT).await?;
    assert_eq!(forwarded_for(&site, named).await?, "192.0.2.7");
    gateway.logged("and this one waited longest").await
}

/// skopeo dials HAProxy by a name of its own, and gets a token under that name.
#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_and_pulls_through_haproxy() -> Result<()> {
    let site = Site::start()?;
    let port = free_port();
    let over = json!({
        "proxy_protocol": true,
        "trusted_proxies": [PROXY],
        "more_hostnames": [format!("localhost:{port}"), "other.example.com"],
    });
    let gateway = site.gateway(&over).await?;
    let haproxy = HaProxy::start(port, gateway.address(), PROXY).await?;
    let folder = TempDir::new()?;
    let part = Part { seed: 1, size: 300_000, packing: Packing::Gzip };
    let image = ImageDir::image(&folder.path().join("image"), Types::Oci, &[part])?;
    let trusted = folder.path().join("trusted");
    std::fs::create_dir(&trusted)?;
    std::fs::copy(gateway.authority_file(), trusted.join("ca.crt"))?;
    let skopeo = Skopeo { trusted, login: Some(Login::new(USER, PASSWORD)) };
    let reference = format!("{}/{USER}/one:1", haproxy.hostname());
    skopeo.push(&image.path, &reference).await?;
    let pulled = folder.path().join("pulled");
    std::fs::create_dir(&pulled)?;
    skopeo.pull(&reference, &pulled).await?;
    image.same_as(&pulled)?;
    let log = gateway.log();
    let access: Vec<_> =
        log.lines().filter(|line| line.contains("access: ") && line.contains("/v2/")).collect();
    assert!(access.len() > 5 && access.iter().all(|line| line.contains("client=127.0.0.1 ")), "{log}");
    // The gateway's own name still leads to itself.
    let answer = gateway.client(LOGIN)?.raw(Method::GET, "/v2/")?.send().await?;
    let challenge = answer.headers()["www-authenticate"].to_str()?;
    assert!(challenge.contains(&format!("https://{}/v2/auth", gateway.hostname())), "{challenge}");
    Ok(())
}
