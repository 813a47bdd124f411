//! The requests that one pull of an image of ten layers costs the registry.

use anyhow::Result;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, Site};
use http::Method;
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/app";

/// Requests for tokens, manifests and blobs.
type Calls = [usize; 3];

fn image() -> Result<Image> {
    Spec::layers(1, &[4000; 10]).build()
}

/// The requests of a pull by a client that has no token yet. The first request for the manifest is the one that gets the
/// challenge.
async fn pull(site: &Site, gateway: &Gateway) -> Result<Calls> {
    let record = site.quay.record();
    record.clear();
    let client = gateway.client(LOGIN)?;
    assert_eq!(client.pull(REPOSITORY, "v1").await?.len(), 11);
    let all = |part: &str| [Method::GET, Method::HEAD].iter().map(|method| record.count(method, part)).sum();
    Ok([all("/v2/auth"), all("/manifests/"), all("/blobs/")])
}

async fn pulls(over: &Value, push: impl AsyncFn(&Site, &Gateway) -> Result<Client>) -> Result<[Calls; 2]> {
    let site = Site::start()?;
    let gateway = site.gateway(over).await?;
    if over["auth"]["verify_tokens"] != false {
        gateway.verifies_tokens().await?;
    }
    push(&site, &gateway).await?.push(REPOSITORY, "v1", &image()?).await?;
    Ok([pull(&site, &gateway).await?, pull(&site, &gateway).await?])
}

#[tokio::test]
async fn a_pull_costs_one_token_and_one_manifest() -> Result<()> {
    // The push did not come this way.
    let cold = async |site: &Site, _: &Gateway| Client::new(&site.quay.url(), &[], LOGIN);
    assert_eq!(pulls(&json!({}), cold).await?, [[1, 2, 0]; 2]);
    let pushed_here = async |_: &Site, gateway: &Gateway| gateway.client(LOGIN);
    assert_eq!(pulls(&json!({}), pushed_here).await?, [[1, 2, 0]; 2]);
    Ok(())
}

#[tokio::test]
async fn without_verification_or_freshness_each_blob_costs_one_question() -> Result<()> {
    let cold = async |site: &Site, _: &Gateway| Client::new(&site.quay.url(), &[], LOGIN);
    for auth in [json!({"verify_tokens": false}), json!({"freshness": "0s"})] {
        // Two tokens of the same second are equal, so the answers to the second pull may be remembered.
        let [first, _] = pulls(&json!({ "auth": auth }), cold).await?;
        assert_eq!(first, [1, 2, 11], "{auth}");
    }
    Ok(())
}
