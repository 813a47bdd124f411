//! The keys that verify the registry's tokens.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::quay::Forgery;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/app";
const WAIT: Duration = Duration::from_secs(60);

/// A site, its gateway, and the path of a blob.
async fn start() -> Result<(Site, Gateway, String)> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    gateway.verifies_tokens().await?;
    let image = Spec::layers(1, &[4000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    client.pull(REPOSITORY, "v1").await?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
    Ok((site, gateway, path))
}

/// Reads a blob with a token. Returns how often the registry was asked.
async fn asked(site: &Site, client: &Client, path: &str, token: &str, expected: StatusCode) -> Result<usize> {
    let before = site.quay.record().count(&Method::HEAD, path);
    let answer = client.raw(Method::HEAD, path)?.bearer_auth(token).send().await?;
    ensure!(answer.status() == expected, "{}", answer.status());
    Ok(site.quay.record().count(&Method::HEAD, path) - before)
}

/// A new container of Quay signs with a new key.
#[tokio::test]
async fn a_new_key_is_fetched_and_meanwhile_the_registry_is_asked() -> Result<()> {
    let (site, gateway, path) = start().await?;
    let client = gateway.client(None)?;
    let other = site.instance("zone-b")?;
    let token = other.token("admin", REPOSITORY, &["pull"], json!({"nonce": 1}))?;
    assert_eq!(asked(&site, &client, &path, &token, StatusCode::OK).await?, 1, "the key is unknown");
    let deadline = Instant::now() + WAIT;
    while gateway.metric("quay_gateway_token_keys").await? < 2.0 {
        ensure!(Instant::now() < deadline, "the new key was not fetched");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let token = other.token("admin", REPOSITORY, &["pull"], json!({"nonce": 2}))?;
    assert_eq!(asked(&site, &client, &path, &token, StatusCode::OK).await?, 0);
    Ok(())
}

#[tokio::test]
async fn made_up_keys_do_not_flood_the_registry() -> Result<()> {
    let (site, gateway, path) = start().await?;
    let (client, before, since) = (gateway.client(None)?, site.quay.key_fetches(), Instant::now());
    for _ in 0..40 {
        let token = site.quay.forged(Forgery::UnknownKey, "admin", REPOSITORY)?;
        assert!(asked(&site, &client, &path, &token, StatusCode::UNAUTHORIZED).await? >= 1);
    }
    let allowed = 1 + usize::try_from(since.elapsed().as_secs())? / 5;
    let fetches = site.quay.key_fetches() - before;
    ensure!(fetches <= allowed, "{fetches} fetches of the key set, allowed are {allowed}");
    Ok(())
}

#[tokio::test]
async fn keys_and_links_survive_a_clean_restart_and_a_kill_ends_the_links() -> Result<()> {
    let (site, mut gateway, path) = start().await?;
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let client = gateway.client(None)?;
    assert_eq!(asked(&site, &client, &path, &token, StatusCode::OK).await?, 0);
    // The next start cannot fetch the keys.
    site.quay.set(|faults| faults.unreadable = Some("/keys/"));
    gateway.terminate().await?;
    gateway.spawn().await?;
    gateway.verifies_tokens().await?;
    let client = gateway.client(None)?;
    assert_eq!(asked(&site, &client, &path, &token, StatusCode::OK).await?, 0, "after a clean end");
    gateway.kill();
    gateway.spawn().await?;
    gateway.verifies_tokens().await?;
    let client = gateway.client(None)?;
    assert_eq!(asked(&site, &client, &path, &token, StatusCode::OK).await?, 1, "a removal may be lost");
    Ok(())
}
