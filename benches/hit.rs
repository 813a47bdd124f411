//! Measures a cache hit over TLS on loopback, with the gateway in this process, one client and one
//! connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gateway::App;
use harness::client::Client;
use harness::image::{Layer, Spec};
use harness::site::{LOGIN, Site, USER};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const REPOSITORY: &str = "admin/bench";

/// The sizes of the blobs, in bytes.
const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)];

/// The HTTP/2 window of the client, in bytes. It is large, so that the gateway is the bottleneck.
const H2_WINDOW: u32 = 16 << 20;

/// The time for each benchmark. It suffices for a few dozen pulls of the largest blob.
const MEASUREMENT: Duration = Duration::from_secs(10);

/// The number of samples of each benchmark. A sample of the largest blob is several pulls.
const SAMPLES: usize = 20;

#[derive(Debug, Clone, Copy)]
enum Protocol {
    H1,
    H2,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::H1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// A running gateway that has every blob in its cache.
struct Fixture {
    // Dropping the site or the folders stops the parts that the gateway needs.
    site: Site,
    folders: harness::gateway::Gateway,
    blobs: Vec<(&'static str, Digest, u64)>,
    stop: CancellationToken,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let site = Site::start()?;
        let quay = site.quay.config().to_string();
        let folders = harness::gateway::Gateway::prepare(
            &site.gateway_config(&json!({})),
            &[("quay.yaml", quay.as_str())],
        )?;
        let settings = config::load_with(&folders.config_file(), std::iter::empty())?;
        let app = App::bind(settings).await?;
        let stop = CancellationToken::new();
        tokio::spawn(app.run(stop.clone()));
        let layers = SIZES.iter().map(|(_, size)| Layer::Raw(noise(*size))).collect();
        let image = Spec { layers, ..Spec::layers(1, &[]) }.build()?;
        // This push bypasses the gateway, so that no copies to other zones run during the measurement.
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        // The first pull fills the cache.
        folders.client(LOGIN)?.pull(REPOSITORY, "v1").await?;
        let names = SIZES.iter().map(|(name, _)| *name);
        let blobs = names.zip(&image.layers).map(|(name, blob)| (name, blob.digest, blob.size)).collect();
        Ok(Self { site, folders, blobs, stop })
    }

    /// The request of a client that may read the blob.
    fn get(&self, digest: &Digest, protocol: Protocol) -> Result<Request<Empty<Bytes>>> {
        let token = self.site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        // HTTP/2 carries the host in the target, HTTP/1.1 in a header.
        let uri = match protocol {
            Protocol::H1 => path,
            Protocol::H2 => format!("{}{path}", self.folders.url()),
        };
        let mut request = Request::get(uri).body(Empty::new())?;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
        if let Protocol::H1 = protocol {
            headers.insert(header::HOST, HeaderValue::try_from(self.folders.hostname())?);
        }
        Ok(request)
    }

    async fn connect(&self, protocol: Protocol) -> Result<Connection> {
        let authority = std::fs::read_to_string(self.folders.authority_file())?;
        let mut tls = harness::certs::client_config(&[&authority])?;
        tls.alpn_protocols = vec![protocol.alpn().to_vec()];
        let stream = TcpStream::connect(self.folders.address()).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect("localhost".try_into()?, stream).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(protocol.alpn()), "another protocol");
        let io = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Connection::H1(sender)
            }
            Protocol::H2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(H2_WINDOW)
                    .initial_connection_window_size(H2_WINDOW)
                    .handshake(io)
                    .await?;
                tokio::spawn(connection);
                Connection::H2(sender)
            }
        })
    }
}

/// Incompressible bytes that are the same in each run.
fn noise(size: usize) -> Vec<u8> {
    let mut state = size as u64 | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(size.div_ceil(8)).flatten().take(size).collect()
}

/// One connection that is used again and again.
enum Connection {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    /// Reads a blob to its end. The bytes are counted and dropped.
    async fn pull(&mut self, request: Request<Empty<Bytes>>, size: u64) -> Result<()> {
        let response = match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        ensure!(response.status() == StatusCode::OK, "status {}", response.status());
        let hit = response.headers().get("cache-status").is_some_and(|status| status == "quay-gateway; hit");
        ensure!(hit, "no hit");
        let mut body = response.into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        ensure!(received == size, "{received} bytes, not {size}");
        Ok(())
    }

    async fn pull_often(
        &mut self,
        request: &Request<Empty<Bytes>>,
        size: u64,
        times: u64,
    ) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..times {
            self.pull(request.clone(), size).await?;
        }
        Ok(start.elapsed())
    }
}

fn hit(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let fixture = runtime.block_on(Fixture::start()).context("the fixture").expect("starts");
    let mut group = criterion.benchmark_group("hit");
    group.measurement_time(MEASUREMENT).sample_size(SAMPLES);
    for (name, digest, size) in &fixture.blobs {
        group.throughput(Throughput::Bytes(*size));
        for protocol in [Protocol::H1, Protocol::H2] {
            let request = fixture.get(digest, protocol).expect("a request");
            let mut connection = runtime.block_on(fixture.connect(protocol)).expect("a connection");
            group.bench_function(BenchmarkId::new(protocol.name(), name), |bencher| {
                bencher.iter_custom(|times| {
                    runtime.block_on(connection.pull_often(&request, *size, times)).expect("pulls")
                });
            });
        }
    }
    group.finish();
    fixture.stop.cancel();
}

criterion_group!(benches, hit);
criterion_main!(benches);
