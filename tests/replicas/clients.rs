//! What clients and the registry notice of the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::image::Spec;
use harness::site::{PASSWORD, USER};
use http::{Method, StatusCode};
use real_servers::{ImageDir, Login, Packing, Part, Skopeo, Types};
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::fixture::{Fixture, HIT, Kind, Trusted};

/// The address of a client that is not the proxy's.
const CLIENT: &str = "127.0.0.7";
const PATIENCE: Duration = Duration::from_secs(60);

crate::behind_each_proxy! {
    skopeo_pushes_and_pulls
    all_of_a_push_goes_to_one_replica
    the_client_is_who_connects_and_not_who_it_says
    http2_and_http1_lead_to_the_same_replica
    requests_of_no_repository_go_by_the_client
    replicas_may_have_authorities_of_their_own
    a_replica_that_the_authority_does_not_know_gets_nothing
}

async fn skopeo_pushes_and_pulls(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    let folder = TempDir::new()?;
    let parts = [1, 2].map(|seed| Part { seed, size: 3_000_000, packing: Packing::Gzip });
    let image = ImageDir::image(&folder.path().join("image"), Types::Oci, &parts)?;
    let skopeo = Skopeo { trusted: fixture.trusted()?, login: Some(Login::new(USER, PASSWORD)) };
    let reference = format!("{}/{USER}/one:1", fixture.hostname());
    skopeo.push(&image.path, &reference).await?;
    let pulled = folder.path().join("pulled");
    std::fs::create_dir(&pulled)?;
    skopeo.pull(&reference, &pulled).await?;
    image.same_as(&pulled)
}

/// A manifest follows the last upload of its repository, which only one replica remembers.
async fn all_of_a_push_goes_to_one_replica(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    let client = fixture.client()?;
    let mut used = [0; 3];
    for repository in (0..12).map(|n| format!("admin/r{n}")) {
        let image = Spec::layers(1, &[10_000, 20_000]).build()?;
        client.push(&repository, "v1", &image).await?;
        let manifest = format!("/v2/{repository}/manifests/v1");
        let of = |replica: usize, part: &str| fixture.accesses(replica, &[part]);
        let at = tokio::time::timeout(PATIENCE, async {
            loop {
                match (0..3).find(|at| of(*at, &manifest) > 0) {
                    Some(at) => return at,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let at = at.await.context("no replica has logged the manifest")?;
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let everywhere: usize = (0..3).map(|replica| of(replica, &uploads)).sum();
        // Three blobs, each with POST, PATCH and PUT.
        ensure!(
            of(at, &uploads) == 9 && everywhere == 9,
            "{repository}: {} of {everywhere}",
            of(at, &uploads)
        );
        used[at] += 1;
    }
    ensure!(used.iter().all(|pushes| *pushes > 0), "pushes: {used:?}");
    Ok(())
}

async fn the_client_is_who_connects_and_not_who_it_says(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(CLIENT.parse()?, 0))?;
    let stream = socket.connect(SocketAddr::new("127.0.0.1".parse()?, fixture.port)).await?;
    let tls = TlsConnector::from(Arc::new(fixture.tls("http/1.1")?));
    let mut stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nHost: {}\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 203.0.113.2\r\n\
         Connection: close\r\n\r\n",
        fixture.hostname()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("no answer")??;
    ensure!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
    let seen = fixture.site.quay.record().of(&Method::GET, "/v2/");
    let clients: Vec<_> = seen.iter().map(|seen| seen.header("x-forwarded-for")).collect();
    ensure!(
        clients.contains(&CLIENT) && clients.iter().all(|client| !client.contains("203.")),
        "{clients:?}"
    );
    let logged = || (0..3).any(|at| fixture.accesses(at, &[&format!("client={CLIENT} "), "/v2/"]) > 0);
    let wait = async {
        while !logged() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("no replica has logged the client")
}

async fn http2_and_http1_lead_to_the_same_replica(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    let image = fixture.pushed(&["admin/one"]).await?;
    for blob in image.blobs() {
        fixture.client()?.pull_blob("admin/one", &blob.digest).await?;
    }
    let versions = [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)];
    for (protocol, version) in versions {
        let tls = fixture.tls(protocol)?;
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
        let url = |path: &str| format!("https://{}{path}", fixture.hostname());
        let answer = http.get(url("/v2/")).send().await?;
        ensure!(answer.version() == version && answer.status() == StatusCode::UNAUTHORIZED, "{answer:?}");
        // The registry's login is under the name that the client dialled.
        let challenge = answer.headers()["www-authenticate"].to_str()?;
        ensure!(challenge.contains(&url("/v2/auth")), "{challenge}");
        let service = fixture.site.quay.hostname();
        let token = url(&format!("/v2/auth?service={service}&scope=repository:admin/one:pull"));
        let answer = http.get(token).basic_auth(USER, Some(PASSWORD)).send().await?.text().await?;
        let token: serde_json::Value = serde_json::from_str(&answer)?;
        let token = token["token"].as_str().context("no token")?;
        for blob in image.blobs() {
            let blob = url(&format!("/v2/admin/one/blobs/{}", blob.digest));
            let answer = http.get(blob).bearer_auth(token).send().await?;
            ensure!(answer.version() == version && answer.headers()["cache-status"] == HIT, "{answer:?}");
        }
    }
    Ok(())
}

async fn requests_of_no_repository_go_by_the_client(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    for _ in 0..12 {
        // Each has a connection of its own.
        fixture.client()?.raw(Method::GET, "/v2/")?.send().await?;
    }
    let wait = async {
        loop {
            let of: Vec<_> = (0..3).map(|at| fixture.accesses(at, &["path=\"/v2/\""])).collect();
            match of.iter().sum::<usize>() {
                12 => return of,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let of = tokio::time::timeout(PATIENCE, wait).await.context("not all are logged")?;
    ensure!(of.contains(&12), "{of:?}");
    Ok(())
}

async fn replicas_may_have_authorities_of_their_own(kind: Kind) -> Result<()> {
    let fixture = Fixture::with(kind, &json!({}), Trusted::EachItsOwn).await?;
    fixture.pushed(&["admin/one", "admin/two"]).await?;
    for gateway in &fixture.gateways {
        gateway.logged("path=\"/v2/admin/").await?;
    }
    Ok(())
}

async fn a_replica_that_the_authority_does_not_know_gets_nothing(kind: Kind) -> Result<()> {
    let fixture = Fixture::with(kind, &json!({}), Trusted::Stranger).await?;
    let client = fixture.client()?;
    let answer = client.raw(Method::GET, "/v2/")?.send().await?;
    ensure!(answer.status() == StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    ensure!((0..3).all(|at| fixture.accesses(at, &["/v2/"]) == 0), "a replica got a request");
    Ok(())
}
