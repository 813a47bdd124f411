//! skopeo, podman and containerd against docker-registry with its blobs in real S3 servers:
//! directly, and through the gateway.

mod scenario;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use sha2::Digest as _;
use tempfile::TempDir;
use tests::client::Client;
use tests::proxy::Proxy;
use tests::real::{
    Bucket, Certificates, DistributionGateway, DockerRegistry, RadosGw, SeaweedFs, Shape, TokenServer, shapes,
};
use tokio::time::Instant;

use crate::scenario::{Scenario, access, puller};

/// Bytes of the large layer.
const LARGE: usize = 300 << 20;
/// How long the copies of a push may take to arrive in the other zone.
const COPY_BOUND: Duration = Duration::from_secs(90);

/// What the clients do must work without the gateway, or its failure says nothing of the gateway.
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

/// docker-registry keeps its blobs in zone a; the gateway reaches both zones through proxies.
#[tokio::test(flavor = "multi_thread")]
async fn clients_through_the_gateway() {
    let certificates = Certificates::make().expect("certificates");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_owned();
    let (a, b, shapes) = tokio::join!(
        SeaweedFs::start("zone-a"),
        RadosGw::start("zone-b"),
        tokio::task::spawn_blocking(move || shapes(&path, LARGE))
    );
    let (a, b, shapes) = (
        a.expect("SeaweedFS starts"),
        b.expect("RadosGW starts"),
        shapes.expect("no panic").expect("images"),
    );
    let tokens = TokenServer::start(access()).await.expect("tokens");
    let registry = DockerRegistry::start(&a.bucket, &tokens, Some(&certificates.server()))
        .await
        .expect("docker-registry starts");
    DockerRegistry::seed_empty_blob(&a.bucket, "team/empty").await.expect("an empty blob");
    let (line_a, line_b) = (line(&a.bucket), line(&b.bucket));
    let zones = [("zone-a", zone(&a.bucket, &line_a)), ("zone-b", zone(&b.bucket, &line_b))];
    let gateway =
        DistributionGateway::start(&registry, &certificates, &zones).await.expect("the gateway starts");
    let scenario = Scenario { endpoint: gateway.endpoint.clone(), trusted: certificates.trusted(), shapes };

    scenario.push_all().await.expect("pushed");
    scenario.refusals().await.expect("refused");
    copied(&scenario.shapes, &b.bucket).await.expect("copied to zone b");
    scenario.pull_all().await.expect("pulled");
    scenario.push_by_others().await.expect("pushed by the others");

    line_a.down().await;
    line_b.down().await;
    all_hits(&scenario, &certificates).await.expect("hits with both lines cut");
    scenario.pull_all().await.expect("pulled with both lines cut");
    scenario.refusals().await.expect("refused although cached");
}

fn line(bucket: &Bucket) -> Proxy {
    Proxy::start(([127, 0, 0, 1], bucket.port).into()).expect("a proxy")
}

fn zone(bucket: &Bucket, line: &Proxy) -> serde_json::Value {
    bucket.as_zone(line.address().port(), DockerRegistry::ROOT)
}

/// Every blob of every image arrives in the other zone, with the right bytes.
async fn copied(shapes: &[Shape], zone: &Bucket) -> Result<()> {
    let end = Instant::now() + COPY_BOUND;
    for shape in shapes {
        for (hex, size) in &shape.image.blobs {
            let key = DockerRegistry::blob_key(hex);
            while zone.length(&key).await? != Some(*size) {
                ensure!(Instant::now() < end, "{}: {hex} did not arrive", shape.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let bytes = zone.read(&key).await?.context("it was there")?;
            ensure!(hex::encode(sha2::Sha256::digest(&bytes)) == *hex, "{}: {hex} arrived wrong", shape.name);
        }
    }
    Ok(())
}

/// Every blob of every image comes from the cache, whole and right.
async fn all_hits(scenario: &Scenario, certificates: &Certificates) -> Result<()> {
    let login = puller();
    let base = format!("https://{}", scenario.endpoint);
    let client = Client::new(&base, &[&certificates.pem()], Some((&login.user, &login.password)))?;
    for shape in &scenario.shapes {
        for hex in shape.image.blobs.keys() {
            let digest: Digest = format!("sha256:{hex}").parse()?;
            let pulled =
                client.pull_blob(&format!("team/{}", shape.name), &digest).await.context(shape.name)?;
            let status = pulled.cache_status.unwrap_or_default();
            ensure!(
                status.starts_with("quay-gateway; hit"),
                "{}: {hex}: Cache-Status {status:?}",
                shape.name
            );
        }
    }
    Ok(())
}
