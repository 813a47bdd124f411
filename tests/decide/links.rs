//! What ends a link, and what an answer looks like that the registry was not asked for.

use anyhow::Result;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, Site};
use http::header::{COOKIE, RANGE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/app";

struct Fixture {
    site: Site,
    gateway: Gateway,
    client: Client,
    image: Image,
    token: String,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let site = Site::start()?;
        let gateway = site.gateway(&json!({})).await?;
        gateway.verifies_tokens().await?;
        let image = Spec::layers(1, &[4000, 5000]).build()?;
        let client = gateway.client(LOGIN)?;
        client.push(REPOSITORY, "v1", &image).await?;
        client.pull(REPOSITORY, "v1").await?;
        let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
        Ok(Self { site, gateway, client, image, token })
    }

    fn path(&self, layer: usize) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.image.layers[layer].digest)
    }

    /// The answer to a read of a layer, and how often the registry was asked for it.
    async fn read(&self, layer: usize) -> Result<(StatusCode, usize)> {
        let path = self.path(layer);
        let heads = || self.site.quay.record().count(&Method::HEAD, &path);
        let before = heads();
        let answer =
            self.gateway.client(None)?.raw(Method::GET, &path)?.bearer_auth(&self.token).send().await?;
        Ok((answer.status(), heads() - before))
    }
}

const YES: (StatusCode, usize) = (StatusCode::OK, 0);
const ASKED: (StatusCode, usize) = (StatusCode::OK, 1);
const NO: (StatusCode, usize) = (StatusCode::NOT_FOUND, 1);

#[tokio::test]
async fn a_refusal_ends_the_link_for_everybody() -> Result<()> {
    let fixture = Fixture::new().await?;
    assert_eq!([fixture.read(0).await?, fixture.read(1).await?], [YES; 2]);
    // Nobody without a token may read it. That says nothing about others, but they are asked for again.
    let anonymous = fixture.gateway.client(None)?.raw(Method::HEAD, &fixture.path(0))?.send().await?;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert_eq!([fixture.read(0).await?, fixture.read(1).await?], [ASKED, YES]);
    // The registry loses both. The gateway learns of one of them.
    for layer in &fixture.image.layers {
        fixture.site.quay.unlink(REPOSITORY, &layer.digest);
    }
    let other = fixture.gateway.client(LOGIN)?;
    let cookie = [(COOKIE.as_str(), "makes=it-ask")];
    let answer = other.fetch(Method::HEAD, &fixture.path(0), &cookie).await?;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!([fixture.read(0).await?, fixture.read(1).await?], [NO; 2]);
    Ok(())
}

#[tokio::test]
async fn a_deletion_ends_the_links_of_the_repository() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.quay.unlink(REPOSITORY, &fixture.image.layers[0].digest);
    assert_eq!(fixture.read(0).await?, YES, "as Quay itself remembers it");
    let target = format!("/v2/{REPOSITORY}/manifests/v1");
    let deleted = fixture.client.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert_eq!([fixture.read(0).await?, fixture.read(1).await?], [NO, ASKED]);
    Ok(())
}

/// A client skipped a blob because of a link. Its next try must report the blob as missing.
#[tokio::test]
async fn a_refused_manifest_ends_the_links_of_the_repository() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.quay.unlink(REPOSITORY, &fixture.image.layers[0].digest);
    assert!(fixture.client.push(REPOSITORY, "v2", &fixture.image).await.is_err());
    assert_eq!(fixture.read(0).await?, NO);
    fixture.client.push(REPOSITORY, "v2", &fixture.image).await?;
    assert_eq!(fixture.read(0).await?, YES, "the upload confirmed it");
    Ok(())
}

/// Anything in a request that the registry may judge makes the gateway ask.
#[tokio::test]
async fn only_a_plain_request_is_decided_here() -> Result<()> {
    let fixture = Fixture::new().await?;
    let path = fixture.path(0);
    let client = fixture.gateway.client(None)?;
    let heads = || fixture.site.quay.record().count(&Method::HEAD, &path);
    let asks = async |query: &str, headers: &[(&str, &str)]| -> Result<bool> {
        let before = heads();
        let mut request = client.raw(Method::GET, &format!("{path}{query}"))?.bearer_auth(&fixture.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert!(request.send().await?.status().is_success());
        Ok(heads() > before)
    };
    // What container engines send.
    let engine = [
        ("accept", "*/*"),
        ("user-agent", "containers/5"),
        ("docker-distribution-api-version", "registry/2.0"),
    ];
    assert!(!asks("", &engine).await?);
    assert!(!asks("", &[(RANGE.as_str(), "bytes=0-9")]).await?);
    assert!(asks("?ns=x", &[]).await?);
    assert!(asks("", &[("cookie", "session=a")]).await?);
    assert!(asks("", &[("x-csrf-token", "a")]).await?);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_decided_here_has_the_registrys_headers() -> Result<()> {
    let fixture = Fixture::new().await?;
    let asking = fixture.site.gateway(&json!({"auth": {"verify_tokens": false}})).await?;
    // The second read of each is a hit.
    for method in [Method::GET, Method::HEAD, Method::GET, Method::HEAD] {
        let headers = async |gateway: &Gateway| -> Result<HeaderMap> {
            let request = gateway.client(None)?.raw(method.clone(), &fixture.path(0))?;
            let mut headers = request.bearer_auth(&fixture.token).send().await?.headers().clone();
            for own in ["date", "x-request-id", "cache-status"] {
                headers.remove(own);
            }
            Ok(headers)
        };
        let (decided, asked) = (headers(&fixture.gateway).await?, headers(&asking).await?);
        assert_eq!(decided, asked, "{method}");
    }
    Ok(())
}
