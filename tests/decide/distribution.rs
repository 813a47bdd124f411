//! Decisions in front of docker-registry, with the keys of its token service.

use anyhow::{Result, ensure};
use backends::Digest;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::Spec;
use http::{Method, StatusCode};
use real_servers::{AccessTable, Account, DockerRegistry, SeaweedFs, TokenServer};
use serde_json::json;

const REPOSITORY: &str = "team/app";

fn access() -> AccessTable {
    let owner =
        Account { user: "owner", password: "owner", grants: &[("team/", &["pull", "push", "delete"])] };
    AccessTable { accounts: vec![owner], public: Vec::new() }
}

struct Fixture {
    gateway: Gateway,
    direct: Client,
    tokens: TokenServer,
    /// Another token service, with another key and the same names.
    forger: TokenServer,
    digest: Digest,
    _registry: DockerRegistry,
    _store: SeaweedFs,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let store = SeaweedFs::start("zone-a").await?;
        let (tokens, forger) = (TokenServer::start(access()).await?, TokenServer::start(access()).await?);
        let registry = DockerRegistry::start(&store.bucket, &tokens, None).await?;
        let keys =
            json!({"file": tokens.certificate(), "issuer": tokens.issuer(), "service": tokens.service()});
        let url = format!("http://{}", registry.endpoint);
        let zone = store.bucket.as_zone(store.bucket.port, DockerRegistry::ROOT);
        let config = json!({
            "registry": {"kind": "distribution", "url": url, "token_keys": keys},
            "home": "zone-a", "zones": {"zone-a": zone},
        });
        let gateway = Gateway::start(&config, &[]).await?;
        let image = Spec::layers(1, &[4000]).build()?;
        let owner = gateway.client(Some(("owner", "owner")))?;
        owner.push(REPOSITORY, "v1", &image).await?;
        owner.pull(REPOSITORY, "v1").await?;
        let direct = Client::new(&url, &[], None)?;
        let digest = image.layers[0].digest;
        Ok(Self { gateway, direct, tokens, forger, digest, _registry: registry, _store: store })
    }

    fn path(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.digest)
    }

    async fn decided(&self) -> Result<f64> {
        self.gateway.metric("quay_gateway_permissions_total{by=\"token\"}").await
    }

    /// The gateway's status and the registry's own.
    async fn statuses(&self, method: &Method, token: Option<&str>) -> Result<[StatusCode; 2]> {
        let mut statuses = [StatusCode::OK; 2];
        for (status, client) in statuses.iter_mut().zip([&self.gateway.client(None)?, &self.direct]) {
            let mut request = client.raw(method.clone(), &self.path())?;
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            *status = request.send().await?.status();
            // The registry sends clients to its store.
            if *status == StatusCode::TEMPORARY_REDIRECT {
                *status = StatusCode::OK;
            }
        }
        Ok(statuses)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_token_service_are_verified_as_the_registry_does() -> Result<()> {
    let fixture = Fixture::start().await?;
    let token = |life| fixture.tokens.token("owner", REPOSITORY, &["pull"], life).map(Some);
    for (what, token, expected) in [
        ("a token", token(300)?, StatusCode::OK),
        ("another token", token(301)?, StatusCode::OK),
        ("within the leeway", token(-30)?, StatusCode::OK),
        ("an expired token", token(-70)?, StatusCode::UNAUTHORIZED),
        ("no token", None, StatusCode::UNAUTHORIZED),
        (
            "a forged token",
            Some(fixture.forger.token("owner", REPOSITORY, &["pull"], 300)?),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "for another repository",
            Some(fixture.tokens.token("owner", "team/b", &["pull"], 300)?),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "only to push",
            Some(fixture.tokens.token("owner", REPOSITORY, &["push"], 300)?),
            StatusCode::UNAUTHORIZED,
        ),
    ] {
        // A refusal ends the link, and this one confirms it again.
        let first = fixture.tokens.token("owner", REPOSITORY, &["pull"], 300)?;
        assert_eq!(fixture.statuses(&Method::HEAD, Some(&first)).await?, [StatusCode::OK; 2]);
        let before = fixture.decided().await?;
        for method in [Method::HEAD, Method::GET] {
            assert_eq!(fixture.statuses(&method, token.as_deref()).await?, [expected; 2], "{what}: {method}");
        }
        let decided = fixture.decided().await? - before;
        ensure!((decided > 0.0) == (expected == StatusCode::OK), "{what}: {decided} decisions");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_blob_is_refused_at_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let reader = fixture.tokens.token("owner", REPOSITORY, &["pull"], 300)?;
    assert_eq!(fixture.statuses(&Method::HEAD, Some(&reader)).await?, [StatusCode::OK; 2]);
    let token = fixture.tokens.token("owner", REPOSITORY, &["delete"], 300)?;
    let request = fixture.gateway.client(None)?.raw(Method::DELETE, &fixture.path())?.bearer_auth(token);
    assert_eq!(request.send().await?.status(), StatusCode::ACCEPTED);
    let reader = fixture.tokens.token("owner", REPOSITORY, &["pull"], 301)?;
    assert_eq!(fixture.statuses(&Method::GET, Some(&reader)).await?, [StatusCode::NOT_FOUND; 2]);
    Ok(())
}
