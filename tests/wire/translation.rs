//! The translation between HTTP/2 and HTTP/1.1 (RFC 9113 section 8.2, RFC 9110 section 7.6).

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, field,
    frame, read_frame,
};
use harness::gateway::Gateway;
use harness::raw::{connect, trusting};
use harness::record::Seen;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::stub::{Location, Stub, StubAnswer, gateway, registry};

const BLOB: Bytes = Bytes::from_static(b"bytes");

/// A path that the gateway forwards.
const PATH: &str = "/api/v1/user/";

async fn fixture() -> Result<(Stub, Gateway)> {
    let registry = registry(BLOB, Location::default(), &[])?;
    let gateway = gateway(&registry, &json!({"limits": {"header_bytes": "2KiB"}})).await?;
    Ok((registry, gateway))
}

/// The result of an HTTP/2 stream.
#[derive(Debug, PartialEq, Eq)]
enum H2Result {
    /// An answer with this status. The status is 0 if it is not in HPACK's static table (RFC 7541 appendix
    /// A).
    Answer(u16),
    /// The stream or the connection was refused as malformed.
    Malformed,
}

/// Sends a request byte for byte, so that it can be one that no client library would send, with a body in one
/// piece.
async fn h2(
    gateway: &Gateway,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
    trailers: bool,
) -> Result<H2Result> {
    let mut stream = connect(gateway, trusting(gateway, "h2")?).await?;
    let mut sent = preface();
    let last = if body.is_none() && !trailers { END_STREAM } else { 0 };
    sent.extend(frame(HEADERS, END_HEADERS | last, 1, &block(fields)));
    if let Some(body) = body {
        sent.extend(frame(DATA, if trailers { 0 } else { END_STREAM }, 1, body));
    }
    if trailers {
        sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-trailer", "1")])));
    }
    stream.write_all(&sent).await?;
    loop {
        let Ok(Frame { kind, stream: number, payload, .. }) = read_frame(&mut stream).await else {
            return Ok(H2Result::Malformed);
        };
        match (kind, number) {
            (HEADERS, 1) => {
                let known = [(0x88, 200), (0x89, 204), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
                let status = known.iter().find(|(index, _)| payload.first() == Some(index));
                return Ok(H2Result::Answer(status.map_or(0, |(_, status)| *status)));
            }
            (RST_STREAM, 1) | (GOAWAY, 0) => return Ok(H2Result::Malformed),
            _ => {}
        }
    }
}

/// What a client sends first.
fn preface() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Waits until the gateway has read all frames so far, by a PING (RFC 9113 section 6.7).
async fn ping(stream: &mut TlsStream<TcpStream>) -> Result<()> {
    stream.write_all(&frame(PING, 0, 0, &[0; 8])).await?;
    loop {
        let Frame { kind, flags, .. } = read_frame(stream).await?;
        if (kind, flags & ACK) == (PING, ACK) {
            return Ok(());
        }
    }
}

/// The payload of a HEADERS frame with these fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| field(&mut block, name, value));
    block
}

/// The pseudo-header fields of a request, followed by these.
fn request<'a>(method: &'a str, authority: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", method), (":scheme", "https"), (":path", PATH)];
    if !authority.is_empty() {
        fields.push((":authority", authority));
    }
    fields.extend(more);
    fields
}

#[tokio::test]
async fn cookies_become_one_field() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    let cookies = [("cookie", "session=abc"), ("cookie", "_csrf_token=def"), ("cookie", "patternfly=true")];
    assert_eq!(
        h2(&gateway, &request("GET", "localhost", &cookies), None, false).await?,
        H2Result::Answer(200)
    );
    let seen = registry.record.of(&Method::GET, PATH);
    let joined: Vec<_> = seen[0].headers.get_all("cookie").iter().collect();
    assert_eq!(joined, ["session=abc; _csrf_token=def; patternfly=true"]);
    Ok(())
}

#[tokio::test]
async fn fields_of_a_connection_are_malformed_in_http_2() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for field in [
        ("connection", "x-hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        (":path", "/twice"),
        (":status", "200"),
        ("content-length", "5"),
    ] {
        let came = h2(&gateway, &request("GET", "localhost", &[field]), None, false).await?;
        assert_eq!(came, H2Result::Malformed, "{field:?}");
    }
    assert_eq!(registry.record.count(&Method::GET, "/"), 0);
    let trailers = request("GET", "localhost", &[("te", "trailers")]);
    assert_eq!(h2(&gateway, &trailers, None, false).await?, H2Result::Answer(200));
    assert_eq!(registry.record.of(&Method::GET, PATH)[0].header("te"), "");
    Ok(())
}

#[tokio::test]
async fn one_host_in_http_2() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for (authority, hosts, came) in [
        ("localhost", &[][..], 200),
        ("localhost:8443", &[("host", "LOCALHOST:8443")], 200),
        ("localhost", &[("host", "localhost:443")], 200),
        ("", &[("host", "localhost")], 200),
        ("localhost", &[("host", "evil.example.com")], 400),
        ("", &[("host", "a"), ("host", "a")], 400),
        ("", &[], 400),
    ] {
        let fields = request("GET", authority, hosts);
        let answered = h2(&gateway, &fields, None, false).await?;
        // The library may refuse some of these as malformed before the gateway's own check.
        let refused = came == 400 && answered == H2Result::Malformed;
        assert!(answered == H2Result::Answer(came) || refused, "{authority} {hosts:?}: {answered:?}");
    }
    let own = registry.server.address().to_string();
    assert!(registry.record.all().iter().all(|seen| seen.header("host") == own));
    Ok(())
}

#[tokio::test]
async fn bodies_without_a_length_and_trailers() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for trailers in [false, true] {
        let fields = request("PUT", "localhost", &[("content-type", "text/plain")]);
        let came = h2(&gateway, &fields, Some(b"all of it"), trailers).await?;
        assert_eq!(came, H2Result::Answer(200));
    }
    let bodies = registry.bodies.lock().clone();
    assert_eq!(bodies, ["all of it", "all of it"]);
    for seen in registry.record.of(&Method::PUT, PATH) {
        assert_eq!((seen.header("transfer-encoding"), seen.header("x-trailer")), ("chunked", ""));
    }
    let short = request("PUT", "localhost", &[("content-length", "5")]);
    assert_eq!(h2(&gateway, &short, Some(b"four"), false).await?, H2Result::Malformed);
    Ok(())
}

/// The status of one HTTP/1.1 request, sent byte for byte.
async fn h1(gateway: &Gateway, request: &str) -> Result<u16> {
    let mut stream = connect(gateway, trusting(gateway, "http/1.1")?).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Without a close-notify this is an error, after all bytes have arrived.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    ensure!(text.starts_with("HTTP/1."), "no answer but {text:?}");
    text.get(9..12).context("a status")?.parse().context("a status")
}

#[tokio::test]
async fn one_host_in_http_1() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for (line, status) in [
        ("HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("HTTP/1.0\r\n", 200),
        ("HTTP/1.1\r\n", 400),
        ("HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        ("HTTP/1.1\r\nHost: a b\r\n", 400),
        ("HTTP/1.1\r\nHost: user@localhost\r\n", 400),
    ] {
        let answered = h1(&gateway, &format!("GET {PATH} {line}Connection: close\r\n\r\n")).await?;
        assert_eq!(answered, status, "{line:?}");
    }
    for (target, host, status) in [
        ("https://localhost/api/v1/user/", "localhost", 200),
        ("https://localhost/api/v1/user/", "evil.example.com", 400),
        ("https://evil.example.com/api/v1/user/", "localhost", 400),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(h1(&gateway, &request).await?, status, "{target} {host}");
    }
    assert!(registry.record.all().iter().all(|seen| seen.target == PATH));
    Ok(())
}

#[tokio::test]
async fn header_bytes_are_counted_to_the_byte() -> Result<()> {
    const LIMIT: usize = 2048;
    let (_registry, gateway) = fixture().await?;
    let head = |filler: usize| {
        let filler = "x".repeat(filler);
        format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Filler: {filler}\r\n\r\n")
    };
    // The version, two spaces and the end of the head are not counted.
    let rest = head(0).len() - " HTTP/1.1\r\n \r\n".len() + 4;
    assert_eq!(h1(&gateway, &head(LIMIT - rest)).await?, 200);
    assert_eq!(h1(&gateway, &head(LIMIT - rest + 1)).await?, 431);
    assert_eq!(h1(&gateway, &head(2 * LIMIT)).await?, 431);
    Ok(())
}

/// A body that is announced and then empty counts as no body (RFC 9113 section 8.1).
#[tokio::test]
async fn a_read_with_an_empty_body_is_forwarded_without_one() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for method in ["GET", "HEAD"] {
        for (body, trailers) in [(Some(&b""[..]), false), (Some(b""), true), (None, true)] {
            let came = h2(&gateway, &request(method, "localhost", &[]), body, trailers).await?;
            assert_eq!(came, H2Result::Answer(200), "{method} {body:?} {trailers}");
        }
        let chunked = format!(
            "{method} {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n"
        );
        assert_eq!(h1(&gateway, &chunked).await?, 200, "{method}");
        let seen = registry.record.of(&method.parse()?, PATH);
        let bare =
            |seen: &&Seen| (seen.header("transfer-encoding"), seen.header("content-length")) == ("", "");
        assert_eq!((seen.len(), seen.iter().filter(bare).count()), (4, 4), "{method}");
    }
    // The status is not in HPACK's static table.
    let came = h2(&gateway, &request("GET", "localhost", &[]), Some(b"a"), false).await?;
    assert_eq!(came, H2Result::Answer(0), "411");
    assert_eq!(registry.record.count(&Method::GET, PATH), 4);
    Ok(())
}

/// A body has one length. A request with two lengths is refused, or reaches the registry with one.
#[tokio::test]
async fn a_length_beside_chunks() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    for lengths in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let request = format!(
            "PUT {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lengths}\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"
        );
        let status = h1(&gateway, &request).await?;
        assert!(status == 200 || status == 400, "{lengths:?}: {status}");
    }
    for seen in registry.record.of(&Method::PUT, PATH) {
        assert_eq!((seen.header("transfer-encoding"), seen.header("content-length")), ("chunked", ""));
    }
    assert!(registry.bodies.lock().iter().all(|body| body == "all of it"));
    Ok(())
}

#[tokio::test]
async fn hop_by_hop_headers_are_not_forwarded() -> Result<()> {
    let (registry, gateway) = fixture().await?;
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close, x-requested-with, x-request-id\r\nX-Requested-With: hop\r\n\
         X-Request-Id: seven\r\n\
         Keep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: websocket\r\nProxy-Authorization: Basic YTpi\r\n\r\n"
    );
    assert_eq!(h1(&gateway, &request).await?, 200);
    let seen = &registry.record.of(&Method::GET, PATH)[0];
    for gone in ["x-requested-with", "keep-alive", "te", "upgrade", "proxy-authorization"] {
        assert_eq!(seen.header(gone), "", "{gone}");
    }
    assert_eq!(seen.header("x-request-id"), "seven", "it is for all who take part");
    Ok(())
}

#[tokio::test]
async fn answers_lose_only_hop_by_hop_headers() -> Result<()> {
    let registry = Stub::start(|_, _| {
        let headers = [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "session=a; HttpOnly"),
            ("set-cookie", "_csrf_token=b"),
            ("x-next-csrf-token", "c"),
        ];
        StubAnswer::new(StatusCode::OK, &headers, "{}")
    })?;
    let gateway = gateway(&registry, &json!({})).await?;
    for protocol in ["h2", "http/1.1"] {
        let root = std::fs::read_to_string(gateway.authority_file())?;
        let mut tls = harness::certs::client_config(&[&root])?;
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
        let answer = client.get(format!("{}{PATH}", gateway.url())).send().await?;
        let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["session=a; HttpOnly", "_csrf_token=b"], "{protocol}");
        assert_eq!(answer.headers()["x-next-csrf-token"], "c");
        for gone in ["x-hop", "keep-alive", "transfer-encoding"] {
            assert!(!answer.headers().contains_key(gone), "{protocol} {gone}");
        }
    }
    Ok(())
}

/// A stream that its client resets without an error code ends like a whole body in hyper. The registry must get
/// neither a head whose bytes never come, because it would read the next request as those bytes, nor a part of a
/// body as the whole.
#[tokio::test]
async fn a_body_that_its_client_gives_up_is_never_whole() -> Result<()> {
    const NO_ERROR: [u8; 4] = [0; 4];
    let (stub, mut gateway) = fixture().await?;
    let mut count = 0;
    for (method, path) in [
        ("PUT", "/v2/o/a/manifests/v1"),
        ("DELETE", "/v2/o/a/manifests/v1"),
        ("DELETE", "/./v1/_ping"),
        ("POST", "/api/v1/repository"),
        ("POST", "/v2/o/a/blobs/uploads/"),
        ("PATCH", "/v2/o/a/blobs/uploads/1"),
    ] {
        for (length, body) in [(Some("10"), &b""[..]), (None, b""), (Some("10"), b"cut"), (None, b"cut")] {
            let mut fields =
                vec![(":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost")];
            let id = format!("reset-{count}.");
            fields.push(("x-request-id", &id));
            fields.extend(length.map(|length| ("content-length", length)));
            let mut sent = preface();
            sent.extend(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
            if !body.is_empty() {
                sent.extend(frame(DATA, 0, 1, body));
            }
            let mut stream = connect(&gateway, trusting(&gateway, "h2")?).await?;
            stream.write_all(&sent).await?;
            ping(&mut stream).await?;
            stream.write_all(&frame(RST_STREAM, 0, 1, &NO_ERROR)).await?;
            gateway.logged(&id).await?;
            count += 1;
        }
    }
    // It ends after all that it forwards has ended.
    gateway.terminate().await?;
    let bodies = stub.bodies.lock().clone();
    ensure!(bodies.iter().all(Bytes::is_empty), "{bodies:?} came as whole bodies");
    for seen in stub.record.all() {
        let id = seen.header("x-request-id").to_owned();
        let number: usize = id.trim_matches(|byte: char| !byte.is_ascii_digit()).parse()?;
        ensure!(number % 4 >= 2, "{} {} went on without its body", seen.method, seen.target);
    }
    Ok(())
}
