//! A registry of which only the URL is known: docker-registry with its blobs in a folder, and the stand-in Quay.

use anyhow::{Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use real_servers::{
    AccessTable, Account, DockerRegistry, ImageDir, Login, Packing, Part, Skopeo, TokenServer, Types,
};
use serde_json::{Value, json};

const OWNER: Option<(&str, &str)> = Some(("owner", "owner"));
const REPOSITORY: &str = "team/app";

fn access() -> AccessTable {
    let account = |user, grants| Account { user, password: user, grants };
    let owner = account("owner", &[("team/", &["pull", "push", "delete"])]);
    let other = account("other", &[("other/", &["pull", "push"])]);
    AccessTable { accounts: vec![owner, other], public: vec!["team/open"] }
}

async fn gateway(url: &str, over: Value) -> Result<Gateway> {
    let mut config = json!({"registry": {"kind": "oci", "url": url}});
    harness::gateway::overlay(&mut config, &over);
    Gateway::start(&config, &[]).await
}

/// How often blobs came from the cache and from the registry.
async fn sources(gateway: &Gateway) -> Result<[f64; 2]> {
    let count = async |source: &str| {
        gateway.metric(&format!("quay_gateway_blobs_total{{source=\"{source}\"}}")).await
    };
    Ok([count("hit").await?, count("registry").await? + count("registry-redirect").await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_comes_from_the_registry_once_and_then_from_the_cache() -> Result<()> {
    let tokens = TokenServer::start(access()).await?;
    let registry = DockerRegistry::in_folder(Some(&tokens)).await?;
    let quay = Site::start()?;
    quay.quay.add_repository(REPOSITORY, false);
    quay.quay.grant(REPOSITORY, "admin", true);
    let docker = format!("http://{}", registry.endpoint);
    for (url, login, over) in [
        (docker, OWNER, json!({})),
        // Another make: it redirects every blob to a store, and names itself.
        (
            quay.quay.url(),
            LOGIN,
            json!({"registry": {"server_name": quay.quay.hostname(), "redirects_to": ["127.0.0.1"]}}),
        ),
    ] {
        let gateway = gateway(&url, over).await?;
        let image = Spec::layers(1, &[200_000; 3]).build()?;
        let owner = gateway.client(login)?;
        owner.push(REPOSITORY, "v1", &image).await?;
        assert_eq!(sources(&gateway).await?, [0.0, 0.0]);
        assert_eq!(owner.pull(REPOSITORY, "v1").await?.len(), 4);
        assert_eq!(sources(&gateway).await?, [0.0, 4.0], "{url}");
        assert_eq!(owner.pull(REPOSITORY, "v1").await?.len(), 4);
        assert_eq!(sources(&gateway).await?, [4.0, 4.0], "{url}");
        let blob = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
        let part = owner.fetch(Method::GET, &blob, &[("range", "bytes=100-199")]).await?;
        assert_eq!((part.status, part.body.len()), (StatusCode::PARTIAL_CONTENT, 100));
        let anybody = gateway.client(None)?.raw(Method::GET, &blob)?.send().await?;
        assert_eq!(anybody.status(), StatusCode::UNAUTHORIZED, "{url}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_blob_that_is_not_cached_is_served() -> Result<()> {
    let tokens = TokenServer::start(access()).await?;
    let registry = DockerRegistry::in_folder(Some(&tokens)).await?;
    let url = format!("http://{}", registry.endpoint);
    let gateway = gateway(&url, json!({})).await?;
    let image = Spec::layers(2, &[3_000_000]).build()?;
    Client::new(&url, &[], OWNER)?.push(REPOSITORY, "v1", &image).await?;
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
    let part =
        gateway.client(OWNER)?.fetch(Method::GET, &blob, &[("range", "bytes=1000000-1000099")]).await?;
    assert_eq!((part.status, part.body.len()), (StatusCode::PARTIAL_CONTENT, 100));
    let unknown = format!("/v2/{REPOSITORY}/blobs/{}", backends::Digest::of(b"unknown"));
    let answer = gateway.client(OWNER)?.fetch(Method::GET, &unknown, &[]).await?;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "the registry's own answer");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_the_registry_refuses() -> Result<()> {
    let tokens = TokenServer::start(access()).await?;
    let registry = DockerRegistry::in_folder(Some(&tokens)).await?;
    let url = format!("http://{}", registry.endpoint);
    let gateway = gateway(&url, json!({})).await?;
    let image = Spec::layers(3, &[50_000]).build()?;
    let owner = gateway.client(OWNER)?;
    owner.push(REPOSITORY, "v1", &image).await?;
    owner.pull(REPOSITORY, "v1").await?;
    let other = gateway.client(Some(("other", "other")))?;
    other.push("other/app", "v1", &Spec::layers(4, &[1000]).build()?).await?;
    let direct = Client::new(&url, &[], Some(("other", "other")))?;
    for repository in [REPOSITORY, "other/app"] {
        let path = format!("/v2/{repository}/blobs/{}", image.layers[0].digest);
        for method in [Method::GET, Method::HEAD] {
            let ours = other.fetch(method.clone(), &path, &[]).await?;
            let theirs = direct.fetch(method.clone(), &path, &[]).await?;
            ensure!(
                ours.status == theirs.status,
                "{method} {path}: {}, the registry: {}",
                ours.status,
                theirs.status
            );
            ensure!(
                ours.status.is_client_error() && ours.body.len() < 2048,
                "{method} {path}: {}",
                ours.status
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_logs_in_and_copies_all_platforms() -> Result<()> {
    let registry = DockerRegistry::in_folder(None).await?;
    let gateway = gateway(&format!("http://{}", registry.endpoint), json!({})).await?;
    let folder = tempfile::tempdir()?;
    let trusted = folder.path().join("trusted");
    std::fs::create_dir(&trusted)?;
    std::fs::copy(gateway.authority_file(), trusted.join("ca.crt"))?;
    let part = |seed| Part { seed, size: 100_000, packing: Packing::Gzip };
    let index =
        ImageDir::index(&folder.path().join("image"), Types::Oci, &[part(1), part(2)], &[part(3), part(4)])?;
    let skopeo = |login| Skopeo { trusted: trusted.clone(), login };
    let owner = skopeo(Some(Login::new("owner", "owner")));
    let name = format!("{}/{REPOSITORY}:v1", gateway.hostname());
    owner.push(&index.path, &name).await?;
    for (pull, hits) in [("first", false), ("second", true)] {
        let [before, _] = sources(&gateway).await?;
        let copy = folder.path().join(pull);
        owner.pull(&name, &copy).await?;
        index.same_as(&copy)?;
        let [after, _] = sources(&gateway).await?;
        ensure!((after > before) == hits, "{pull}: {before} hits before, {after} after");
    }
    for refused in [None, Some(Login::new("owner", "wrong"))] {
        ensure!(skopeo(refused).pull(&name, &folder.path().join("refused")).await.is_err(), "it was let in");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_about_zones_say_that_there_are_none() -> Result<()> {
    let registry = DockerRegistry::in_folder(None).await?;
    let gateway = gateway(&format!("http://{}", registry.endpoint), json!({})).await?;
    let check = gateway.command(&["check"]).await?;
    let said = String::from_utf8_lossy(&check.stdout);
    ensure!(check.status.success(), "{said}{}", String::from_utf8_lossy(&check.stderr));
    let with_zones = json!({
        "registry": {"kind": "oci", "url": "http://127.0.0.1:1"},
        "zones": {"zone-a": ["LocalStorage", {"storage_path": "/a"}]},
    });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, with_zones.to_string())?;
    let mut refused = tokio::process::Command::new(harness::gateway::binary());
    let refused = refused.args(["check-config", "--config"]).arg(&file).output().await?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success()
            && said.contains("the stores of a registry of kind oci are not known: remove the zones"),
        "{said}"
    );
    Ok(())
}
