//! Malformed requests: each gets a clear 4xx answer, nothing panics, and nothing is stored.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, Site};
use http::Method;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const REPOSITORY: &str = "admin/one";
const REQUESTS: usize = 1000;
/// The seed of the requests. Equal seeds give equal requests.
const SEED: u64 = 7;
/// The timeout for an answer.
const ANSWER_BOUND: Duration = Duration::from_secs(20);
/// The number of bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 * 1024;

#[tokio::test]
async fn a_thousand_malformed_requests() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"timeouts": {"headers": "3s", "client_stall": "3s"}})).await?;
    let image = Spec::layers(1, &[1000]).build()?;
    let owner = gateway.client(LOGIN)?;
    owner.push(REPOSITORY, "v1", &image).await?;
    let blobs = || {
        Ok::<_, anyhow::Error>(
            site.zone("zone-a")
                .keys()?
                .into_iter()
                .filter(|key| key.contains("/sha256/"))
                .collect::<Vec<_>>(),
        )
    };
    let stored = blobs()?;
    let token = site.quay.token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let maker = RequestMaker { digest: image.layers[0].digest.to_string(), token };
    let tls = connector(&gateway)?;
    let mut rng = Rng::with_seed(SEED);
    for number in 0..REQUESTS {
        let request = maker.request(&mut rng, number);
        let status = status(&gateway, &tls, &request).await;
        let shown =
            String::from_utf8_lossy(&request[..request.len().min(300)]).replace(&maker.token, "<token>");
        let status = status.with_context(|| format!("request {number}: {shown:?}"))?;
        assert!((400..500).contains(&status), "request {number}: {status} for {shown:?}");
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    let cached: Vec<_> = std::fs::read_dir(gateway.cache_dir().join("sha256"))?.collect();
    assert!(cached.is_empty(), "malformed requests filled the cache: {cached:?}");
    assert_eq!(blobs()?, stored, "malformed requests stored something");
    let answer = owner.fetch(Method::GET, &format!("/v2/{REPOSITORY}/blobs/{}", maker.digest), &[]).await?;
    assert_eq!(answer.body, image.layers[0].bytes()?);
    Ok(())
}

fn connector(gateway: &Gateway) -> Result<TlsConnector> {
    let root = std::fs::read_to_string(gateway.authority_file())?;
    let mut config = harness::certs::client_config(&[&root])?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn status(gateway: &Gateway, tls: &TlsConnector, request: &[u8]) -> Result<u16> {
    let exchange = async {
        let tcp = TcpStream::connect(gateway.address()).await?;
        let mut stream = tls.connect(ServerName::try_from("localhost")?, tcp).await?;
        // The answer may arrive and the connection end before everything is written.
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.windows(2).any(|pair| pair == b"\r\n") && (answer.len() as u64) < ANSWER_MAX {
            match stream.read(&mut piece).await? {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        ensure!(text.starts_with("HTTP/1."), "no answer but {text:?}");
        Ok(text[9..12].parse()?)
    };
    tokio::time::timeout(ANSWER_BOUND, exchange).await.context("no answer in time")?
}

struct RequestMaker {
    digest: String,
    token: String,
}

impl RequestMaker {
    fn request(&self, rng: &mut Rng, number: usize) -> Vec<u8> {
        match number % 5 {
            0 => self.bad_line(rng),
            1 => self.bad_path(rng),
            2 => self.bad_range(rng),
            3 => self.bad_header(rng),
            _ => self.bad_body(rng),
        }
    }

    /// A request line that is not HTTP.
    fn bad_line(&self, rng: &mut Rng) -> Vec<u8> {
        let junk: Vec<u8> =
            (0..rng.usize(1..40)).map(|_| rng.u8(1..=255)).filter(|byte| !b"\r\n".contains(byte)).collect();
        let start: &[u8] = rng
            .choice([&b"GET\t/v2/ "[..], b"G\x00T /v2/ ", b"GET /v2/\x01 ", b"/v2/ ", b"GET "])
            .unwrap_or(b"GET ");
        let end: &[u8] =
            rng.choice([&b" HTTP/9.9"[..], b" HTP/1.1", b" HTTP/1.", b" \xff HTTP/1.1"]).unwrap_or(b"");
        [start, &junk, end, b"\r\nHost: x\r\n\r\n"].concat()
    }

    /// A valid request with an invalid path.
    fn bad_path(&self, rng: &mut Rng) -> Vec<u8> {
        let hex = &self.digest[7..];
        let digest = match rng.u8(0..8) {
            0 => format!("sha256:{}", hex.to_uppercase()),
            1 => format!("sha256:{}", &hex[..rng.usize(0..63)]),
            2 => format!("sha256:{hex}{}", rng.u32(..)),
            3 => format!("sha512:{hex}"),
            4 => format!("{hex}:sha256"),
            5 => format!("sha256%3A{}", &hex[1..]),
            6 => format!("sha256:{}", "z".repeat(64)),
            _ => "..%2f..%2fetc%2fpasswd".into(),
        };
        let repository = rng
            .choice([REPOSITORY, "admin/../one", "..", "Admin//one", "admin/one/", "%00", "a b"])
            .unwrap_or("x");
        let repository = repository.replace(' ', "%20");
        self.whole(
            rng.choice(["GET", "HEAD", "DELETE"]).unwrap_or("GET"),
            &format!("/v2/{repository}/blobs/{digest}"),
            "",
            b"",
        )
    }

    /// An existing blob with an invalid range.
    fn bad_range(&self, rng: &mut Rng) -> Vec<u8> {
        let range = match rng.u8(0..8) {
            0 => "bytes=".into(),
            1 => "bytes=-".into(),
            2 => format!("bytes={}-{}", rng.u32(1000..), rng.u32(..1000)),
            3 => format!("bytes=0x{}-", rng.u8(..)),
            4 => "bytes=0--1".into(),
            5 => format!("bytes={}-", rng.u64(1_000_000..)),
            6 => "bytes=-0".into(),
            _ => format!("bytes={}", "9".repeat(rng.usize(1..200))),
        };
        self.whole(
            "GET",
            &format!("/v2/{REPOSITORY}/blobs/{}", self.digest),
            &format!("Range: {range}\r\n"),
            b"",
        )
    }

    /// Header fields that violate rules or limits.
    fn bad_header(&self, rng: &mut Rng) -> Vec<u8> {
        let fields = match rng.u8(0..7) {
            0 => format!("X-Big: {}\r\n", "a".repeat(200_000)),
            1 => (0..300).map(|n| format!("X-{n}: 1\r\n")).collect(),
            2 => "no colon here\r\n".into(),
            3 => "Bad Name: 1\r\n".into(),
            4 => format!(
                "Content-Length: {}\r\n",
                rng.choice(["-1", "1x", "", "99999999999999999999999"]).unwrap_or("x")
            ),
            5 => "Content-Length: 3\r\nContent-Length: 4\r\n".into(),
            _ => "X: a\x00b\r\n".into(),
        };
        self.whole("PUT", &format!("/v2/{REPOSITORY}/manifests/v2"), &fields, b"")
    }

    /// Invalid bodies.
    fn bad_body(&self, rng: &mut Rng) -> Vec<u8> {
        let junk: Vec<u8> = (0..rng.usize(1..2000)).map(|_| rng.u8(..)).collect();
        let length = format!("Content-Length: {}\r\n", junk.len());
        let manifest = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        match rng.u8(0..5) {
            0 => self.whole(
                "PUT",
                &format!("/v2/{REPOSITORY}/manifests/v2"),
                &format!("{manifest}{length}"),
                &junk,
            ),
            1 => self.whole(
                "PUT",
                &format!("/v2/{REPOSITORY}/manifests/v2"),
                &format!("Content-Type: junk/junk\r\n{length}"),
                &junk,
            ),
            2 => self.whole(
                "PUT",
                &format!("/v2/{REPOSITORY}/blobs/uploads/nosuch?digest=junk"),
                &length,
                &junk,
            ),
            3 => {
                let target = format!("/v2/{REPOSITORY}/manifests/v2");
                self.whole(
                    "PUT",
                    &target,
                    &format!("{manifest}Transfer-Encoding: chunked\r\n"),
                    b"zz\r\nnot a chunk\r\n\r\n",
                )
            }
            _ => self.whole(
                "POST",
                &format!("/v2/{REPOSITORY}/blobs/uploads/?digest=sha256:{}", "0".repeat(64)),
                &length,
                &junk,
            ),
        }
    }

    fn whole(&self, method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{fields}\r\n",
            self.token
        );
        [head.as_bytes(), body].concat()
    }
}
