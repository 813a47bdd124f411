//! containerd with the files of `deploy/nodes`: a mirror that shares blobs between nodes, then the gateway, then the
//! registry. The mirror is a stand-in that has nothing, or that has an image and, as Spegel, asks nobody who may read it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::image::Image;
use harness::port::Port;
use harness::record::Record;
use harness::server::Server;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use real_servers::{Containerd, Login};

use crate::fixture::Fixture;

const HOSTS: &str = "etc/containerd/certs.d";

/// The mirror on the node.
struct Mirror {
    server: Server,
    record: Arc<Record>,
}

impl Mirror {
    fn empty() -> Result<Self> {
        Self::with(HashMap::new())
    }

    /// It has the manifest and the blobs of an image, by their digests.
    fn of(image: &Image) -> Result<Self> {
        let manifest = &image.manifest;
        let mut has = HashMap::new();
        has.insert(manifest.digest.to_string(), (manifest.media_type.clone(), manifest.bytes.clone()));
        for blob in image.blobs() {
            has.insert(blob.digest.to_string(), ("application/octet-stream".to_owned(), blob.bytes()?));
        }
        Self::with(has)
    }

    fn with(has: HashMap<String, (String, Bytes)>) -> Result<Self> {
        let record = Arc::new(Record::default());
        let (asked, has) = (Arc::clone(&record), Arc::new(has));
        let answer = move |request: Request<Incoming>| {
            asked.note(&request);
            let path = request.uri().path();
            let found = path.rsplit('/').next().and_then(|digest| has.get_key_value(digest));
            let answer = match found {
                Some((digest, (media_type, bytes))) => Response::builder()
                    .header("content-type", media_type)
                    .header("docker-content-digest", digest)
                    .header("content-length", bytes.len())
                    .body(Full::new(bytes.clone())),
                None => Response::builder().status(StatusCode::NOT_FOUND).body(Full::default()),
            };
            std::future::ready(answer)
        };
        Ok(Self { server: Server::start(Port::free()?, None, service_fn(answer))?, record })
    }
}

/// Writes what `clients` writes, and then the shipped `hosts.toml` with the names and addresses of this test.
async fn write(fixture: &Fixture, of: &str, shipped_mirror: &str, mirror: &Mirror) -> Result<()> {
    let ca = fixture.registry_ca();
    fixture.write(&["containerd", "--registry-ca", &ca]).await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nodes").join(of).join("hosts.toml");
    let mut text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let registry = fixture.site.quay.hostname();
    let changes = [
        (shipped_mirror, mirror.server.address().to_string()),
        ("gateway.example.com:8443", fixture.gateway.hostname()),
        ("quay.example.com", registry.to_owned()),
    ];
    for (from, to) in changes {
        ensure!(text.contains(from), "{} has no {from}", file.display());
        text = text.replace(from, &to);
    }
    let written = fixture.written(HOSTS).join(registry).join("hosts.toml");
    ensure!(written.is_file(), "clients has written no {}", written.display());
    Ok(std::fs::write(written, text)?)
}

/// Pulls three images by tag: with the mirror, without it, and without the gateway.
async fn pulls(fixture: &mut Fixture, mirror: Mirror) -> Result<()> {
    let containerd = Containerd::with_hosts(&fixture.written(HOSTS), Fixture::login()).await?;
    let (image, name) = fixture.pushed(1).await?;
    containerd.pull_by_cri(&fixture.at_registry(&name)).await?;
    fixture.came_through_the_gateway(&image).await?;
    for blob in image.blobs() {
        let asked = mirror.record.reads(&format!("/blobs/{}", blob.digest));
        ensure!(!asked.is_empty(), "the mirror was not asked for {}", blob.digest);
    }
    let all = mirror.record.all();
    ensure!(all.iter().all(|seen| seen.header("authorization").is_empty()), "the mirror has the login");

    drop(mirror);
    let (without_mirror, name) = fixture.pushed(2).await?;
    containerd.pull_by_cri(&fixture.at_registry(&name)).await?;
    fixture.came_through_the_gateway(&without_mirror).await?;

    fixture.gateway.terminate().await?;
    let (without_gateway, name) = fixture.pushed(3).await?;
    containerd.pull_by_cri(&fixture.at_registry(&name)).await?;
    fixture.came_from_the_registry(&without_gateway)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spegel_is_asked_for_digests_only_and_the_gateway_after_it() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mirror = Mirror::empty()?;
    write(&fixture, "spegel", "192.0.2.1:30020", &mirror).await?;
    let record = Arc::clone(&mirror.record);
    pulls(&mut fixture, mirror).await?;
    let all = record.all();
    ensure!(all.iter().all(|seen| seen.target.contains("sha256:")), "{all:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dragonfly_is_told_the_gateway_and_the_gateway_is_asked_after_it() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mirror = Mirror::empty()?;
    write(&fixture, "dragonfly", "127.0.0.1:4001", &mirror).await?;
    let record = Arc::clone(&mirror.record);
    pulls(&mut fixture, mirror).await?;
    let gateway = format!("https://{}", fixture.gateway.hostname());
    let all = record.all();
    ensure!(all.iter().all(|seen| seen.header("x-dragonfly-registry") == gateway), "{all:?}");
    Ok(())
}

/// A private image that a node holds, and somebody whose login is refused.
#[tokio::test(flavor = "multi_thread")]
async fn spegel_gives_private_images_to_whoever_names_the_digest_but_not_the_tag() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (image, name) = fixture.pushed(1).await?;
    let mirror = Mirror::of(&image)?;
    write(&fixture, "spegel", "192.0.2.1:30020", &mirror).await?;
    let stranger = Login::new("stranger", "wrong");
    let containerd = Containerd::with_hosts(&fixture.written(HOSTS), stranger).await?;
    let by_tag = fixture.at_registry(&name);
    ensure!(containerd.pull_by_cri(&by_tag).await.is_err(), "pulled by tag without a login");
    let repository = name.split(':').next().unwrap_or_default();
    let by_digest = fixture.at_registry(&format!("{repository}@{}", image.manifest.digest));
    containerd.pull_by_cri(&by_digest).await
}
