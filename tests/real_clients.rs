//! skopeo, podman and containerd with a docker-registry whose blobs are in real S3 servers: directly, and
//! through the gateway.

mod scenario;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::proxy::Proxy;
use http::Method;
use real_servers::{Bucket, Certificates, DockerRegistry, RadosGw, SeaweedFs, Shape, TokenServer, shapes};
use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::scenario::{Scenario, access, puller};

/// The size of the large layer, in bytes.
const LARGE: usize = 300 << 20;
/// The `Cache-Status` of a cached blob.
const HIT: &str = "quay-gateway; hit";
/// The timeout for the copies of a push into the other zone.
const COPY_BOUND: Duration = Duration::from_secs(90);

/// The clients must work without the gateway. Otherwise a failure says nothing about the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn clients_agree_with_the_registry() {
    let certificates = Certificates::make().expect("certificates");
    let folder = TempDir::new().expect("a folder");
    let store = RadosGw::start("registry").await.expect("RadosGW starts");
    let tokens = TokenServer::start(access()).await.expect("tokens");
    let registry = DockerRegistry::start(&store.bucket, &tokens, Some(&certificates.server()))
        .await
        .expect("docker-registry starts");
    DockerRegistry::seed_empty_blob(&store.bucket, "team/empty").await.expect("an empty blob");
    let shapes = shapes(folder.path(), 10 << 20).expect("images");
    let scenario = Scenario { endpoint: registry.endpoint.clone(), trusted: certificates.trusted(), shapes };
    scenario.push_all().await.expect("pushed");
    scenario.refusals().await.expect("refused");
    scenario.pull_all().await.expect("pulled");
    scenario.push_by_others().await.expect("pushed by the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_through_the_gateway() {
    let mut site = Site::start().await.expect("a site");
    let scenario = site.scenario();
    scenario.push_all().await.expect("pushed");
    scenario.refusals().await.expect("refused");
    copied(&site.shapes, &site.b.bucket).await.expect("copied to zone b");
    scenario.pull_all().await.expect("pulled");
    scenario.push_by_others().await.expect("pushed by the others");
    // Otherwise the proxies that are cut below would not have been used.
    assert!(!site.proxy_a.record().reads("/data").is_empty(), "nothing was read from zone a");
    assert!(site.proxy_b.record().count(&Method::PUT, "/data") > 0, "nothing was copied to zone b");

    site.proxy_a.down().await;
    site.proxy_b.down().await;
    site.every_blob(HIT).await.expect("hits with both proxies cut");
    scenario.pull_all().await.expect("pulled with both proxies cut");
    scenario.refusals().await.expect("refused although cached");

    site.forget_the_cache().await.expect("an empty cache");
    site.proxy_b.heal().await;
    site.every_blob("zone=zone-b").await.expect("everything from zone b");
}

/// docker-registry keeps its blobs in zone a. The gateway reaches both zones through proxies.
struct Site {
    // The fields are dropped in this order: each user of a server before the server.
    gateway: Gateway,
    proxy_a: Proxy,
    proxy_b: Proxy,
    _registry: DockerRegistry,
    _tokens: TokenServer,
    _a: SeaweedFs,
    b: RadosGw,
    certificates: Certificates,
    shapes: Vec<Shape>,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Result<Self> {
        let certificates = Certificates::make()?;
        let folder = TempDir::new()?;
        let path = folder.path().to_owned();
        let making = tokio::task::spawn_blocking(move || shapes(&path, LARGE));
        let (a, b, shapes) = tokio::join!(SeaweedFs::start("zone-a"), RadosGw::start("zone-b"), making);
        let (a, b, shapes) = (a?, b?, shapes??);
        let tokens = TokenServer::start(access()).await?;
        let registry = DockerRegistry::start(&a.bucket, &tokens, Some(&certificates.server())).await?;
        DockerRegistry::seed_empty_blob(&a.bucket, "team/empty").await?;
        let (proxy_a, proxy_b) = (proxy(&a.bucket)?, proxy(&b.bucket)?);
        let zones = json!({ "zone-a": zone(&a.bucket, &proxy_a), "zone-b": zone(&b.bucket, &proxy_b) });
        let gateway = gateway(&registry, &certificates, &zones).await?;
        Ok(Self {
            gateway,
            proxy_a,
            proxy_b,
            _registry: registry,
            _tokens: tokens,
            _a: a,
            b,
            certificates,
            shapes,
            _folder: folder,
        })
    }

    fn scenario(&self) -> Scenario {
        Scenario {
            endpoint: self.gateway.hostname(),
            trusted: self.certificates.trusted(),
            shapes: self.shapes.clone(),
        }
    }

    /// Reads every blob of every image, verifies it, and checks its `Cache-Status`.
    async fn every_blob(&self, expected: &str) -> Result<()> {
        let login = puller();
        let roots = self.certificates.pem();
        let client = Client::new(&self.gateway.url(), &[&roots], Some((&login.user, &login.password)))?;
        let mut read = HashSet::new();
        for shape in &self.shapes {
            // A blob that two images share is a hit the second time.
            for (hex, size) in shape.image.blobs.iter().filter(|(hex, _)| read.insert(hex.as_str())) {
                let digest: Digest = format!("sha256:{hex}").parse()?;
                let pulled =
                    client.pull_blob(&format!("team/{}", shape.name), &digest).await.context(shape.name)?;
                let status = pulled.cache_status.unwrap_or_default();
                // The gateway serves the empty blob without any store.
                let expected = if *size == 0 { HIT } else { expected };
                ensure!(status.contains(expected), "{}: {hex}: Cache-Status {status:?}", shape.name);
            }
        }
        Ok(())
    }

    async fn forget_the_cache(&mut self) -> Result<()> {
        self.gateway.terminate().await?;
        std::fs::remove_dir_all(self.gateway.cache_dir())?;
        std::fs::create_dir(self.gateway.cache_dir())?;
        self.gateway.spawn().await
    }
}

async fn gateway(registry: &DockerRegistry, certificates: &Certificates, zones: &Value) -> Result<Gateway> {
    let tls = certificates.server();
    let config = json!({
        "tls": { "certificate": tls.certificate, "key": tls.key },
        "registry": { "kind": "distribution", "url": format!("https://{}", registry.endpoint) },
        "ca": certificates.root(),
        "home": "zone-a",
        "zones": zones,
        "cache": { "size": "2GiB" },
    });
    Gateway::start(&config, &[]).await
}

fn proxy(bucket: &Bucket) -> Result<Proxy> {
    Ok(Proxy::start(([127, 0, 0, 1], bucket.port).into())?)
}

fn zone(bucket: &Bucket, proxy: &Proxy) -> Value {
    bucket.as_zone(proxy.address().port(), DockerRegistry::ROOT)
}

/// Checks that every blob of every image arrives in the other zone with correct bytes.
async fn copied(shapes: &[Shape], zone: &Bucket) -> Result<()> {
    let end = Instant::now() + COPY_BOUND;
    for shape in shapes {
        for (hex, size) in &shape.image.blobs {
            let key = DockerRegistry::blob_key(hex);
            while zone.length(&key).await? != Some(*size) {
                ensure!(Instant::now() < end, "{}: {hex} did not arrive", shape.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let bytes = zone.read(&key).await?.context("the blob was there")?;
            ensure!(hex::encode(sha2::Sha256::digest(&bytes)) == *hex, "{}: {hex} arrived wrong", shape.name);
        }
    }
    Ok(())
}
