//! Who may read: whatever lies in the cache, the registry decides.

use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::client::Client;
use tests::gateway::Gateway;
use tests::image::{Blob, Image, Layer, Spec};
use tests::site::{LOGIN, Site};

const SECRET: &str = "admin/secret";

struct Stage {
    site: Site,
    gateway: Gateway,
    /// Of a private repository; its layer lies in the gateway's cache.
    image: Image,
}

impl Stage {
    async fn new() -> Result<Self> {
        let site = Site::start()?;
        site.quay.add_user("mallory", "mallory");
        let gateway = site.gateway(&json!({})).await?;
        let image = Spec::layers(1, &[50_000]).build()?;
        let owner = gateway.client(LOGIN)?;
        owner.push(SECRET, "v1", &image).await?;
        owner.pull(SECRET, "v1").await?;
        let again = owner.pull_blob(SECRET, &image.layers[0].digest).await?;
        assert_eq!(again.cache_status.as_deref(), Some("quay-gateway; hit"));
        Ok(Self { site, gateway, image })
    }

    fn digest(&self) -> Digest {
        self.image.layers[0].digest
    }

    /// The status that a token, or none, gets for the cached layer at GET and HEAD.
    async fn asked(&self, repository: &str, token: Option<&str>) -> Result<[StatusCode; 2]> {
        let client = self.gateway.client(None)?;
        let mut statuses = [StatusCode::OK; 2];
        for (status, method) in statuses.iter_mut().zip([Method::GET, Method::HEAD]) {
            let mut request = client.raw(method, &format!("/v2/{repository}/blobs/{}", self.digest()))?;
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            *status = request.send().await?.status();
        }
        Ok(statuses)
    }

    async fn assert_refused(&self, what: &str, repository: &str, token: Option<&str>) -> Result<()> {
        for status in self.asked(repository, token).await? {
            let refused = status == StatusCode::UNAUTHORIZED || status == StatusCode::NOT_FOUND;
            assert!(refused, "{what}: {status}");
        }
        Ok(())
    }

    fn token(&self, user: &str, repository: &str, overrides: Value) -> Result<String> {
        self.site.quay.token(user, repository, &["pull"], overrides)
    }
}

#[tokio::test]
async fn a_cached_private_blob_is_refused_to_strangers() -> Result<()> {
    let stage = Stage::new().await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let good = stage.token("admin", SECRET, json!({}))?;
    assert_eq!(stage.asked(SECRET, Some(&good)).await?, [StatusCode::OK; 2]);

    stage.assert_refused("anonymous", SECRET, None).await?;
    let other = stage.token("mallory", "mallory/own", json!({}))?;
    stage.assert_refused("a token of another repository", SECRET, Some(&other)).await?;
    let expired =
        stage.token("admin", SECRET, json!({"nbf": now - 4000, "iat": now - 4000, "exp": now - 400}))?;
    stage.assert_refused("an expired token", SECRET, Some(&expired)).await?;
    let foreign = stage.token("admin", SECRET, json!({"aud": "another.example.com"}))?;
    stage.assert_refused("a token for another registry", SECRET, Some(&foreign)).await?;
    let (body, _) = good.rsplit_once('.').expect("a JWT");
    stage.assert_refused("a forged token", SECRET, Some(&format!("{body}.Zm9yZ2Vk"))).await?;
    stage.assert_refused("garbage", SECRET, Some("garbage")).await?;
    Ok(())
}

#[tokio::test]
async fn a_digest_belongs_to_its_repository_only() -> Result<()> {
    let stage = Stage::new().await?;
    stage.site.quay.add_repository("mallory/own", false);
    let own = stage.token("mallory", "mallory/own", json!({}))?;
    stage.assert_refused("by digest from a foreign repository", "mallory/own", Some(&own)).await?;
    Ok(())
}

/// A manifest that merely names a stranger's digest makes nothing readable.
#[tokio::test]
async fn naming_a_strangers_layer_links_nothing() -> Result<()> {
    let stage = Stage::new().await?;
    let client = stage.gateway.client(Some(("mallory", "mallory")))?;
    let (digest, size) = (stage.digest(), stage.image.layers[0].size);
    let urls = vec!["https://example.com/layer".to_owned()];
    for (tag, layer) in [
        ("urls", Layer::Foreign(digest, size, urls)),
        ("nondistributable", Layer::Nondistributable(digest, size)),
    ] {
        let trap = Spec { layers: vec![layer], ..Spec::layers(9, &[]) }.build()?;
        client.push_blob("mallory/own", &trap.config).await?;
        // The registry may take the manifest or not; either way nothing is readable by it.
        let _ = client.push_manifest("mallory/own", tag, &trap.manifest).await;
        let _ = client.manifest("mallory/own", tag).await;
        refused_in_own(&client, tag, &digest).await?;
    }
    let config = Blob::in_memory("application/vnd.oci.image.config.v1+json", &b"{}"[..]);
    client.push_blob("mallory/own", &config).await?;
    let descriptor = |kind: &str| json!({"mediaType": kind, "digest": digest.to_string(), "size": size});
    let child = descriptor("application/vnd.oci.image.manifest.v1+json");
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [child]});
    let subject = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config.media_type, "digest": config.digest.to_string(), "size": config.size},
        "layers": [], "subject": descriptor("application/vnd.oci.image.manifest.v1+json"),
    });
    for (tag, manifest) in [("index", index), ("subject", subject)] {
        let media_type = manifest["mediaType"].as_str().expect("a media type").to_owned();
        let target = format!("/v2/mallory/own/manifests/{tag}");
        let body = Bytes::from(manifest.to_string());
        client.send(Method::PUT, &target, &[("content-type", &media_type)], body).await?;
        let _ = client.manifest("mallory/own", tag).await;
        refused_in_own(&client, tag, &digest).await?;
    }
    Ok(())
}

async fn refused_in_own(client: &Client, what: &str, digest: &Digest) -> Result<()> {
    for method in [Method::GET, Method::HEAD] {
        let answer = client.fetch(method, &format!("/v2/mallory/own/blobs/{digest}"), &[]).await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn public_repositories_need_no_token_but_a_wrong_one_is_refused() -> Result<()> {
    let stage = Stage::new().await?;
    stage.site.quay.add_repository("admin/public", true);
    stage.gateway.client(LOGIN)?.push("admin/public", "v1", &stage.image).await?;
    assert_eq!(stage.asked("admin/public", None).await?, [StatusCode::OK; 2]);
    assert_eq!(stage.asked("admin/public", Some("garbage")).await?, [StatusCode::UNAUTHORIZED; 2]);
    stage.assert_refused("still private", SECRET, None).await
}

#[tokio::test]
async fn a_yes_is_remembered_and_a_no_never() -> Result<()> {
    let stage = Stage::new().await?;
    let path = format!("/v2/{SECRET}/blobs/");
    let heads = || stage.site.quay.record().count(&Method::HEAD, &path);
    let token = stage.token("admin", SECRET, json!({}))?;
    let before = heads();
    for _ in 0..3 {
        assert_eq!(stage.asked(SECRET, Some(&token)).await?, [StatusCode::OK; 2]);
    }
    assert_eq!(heads(), before + 1, "asked once for six reads");
    for n in 1..=3 {
        stage.assert_refused("anonymous", SECRET, None).await?;
        assert!(heads() > before + n, "a no was remembered");
    }
    Ok(())
}

/// What else may have moved the registry to its yes is asked again with the next request.
#[tokio::test]
async fn a_yes_is_for_all_that_the_registry_may_have_judged() -> Result<()> {
    let stage = Stage::new().await?;
    let path = format!("/v2/{SECRET}/blobs/{}", stage.digest());
    let heads = || stage.site.quay.record().count(&Method::HEAD, &path);
    let token = format!("Bearer {}", stage.token("admin", SECRET, json!({}))?);
    let client = stage.gateway.client(None)?;
    let asks = async |query: &str, headers: &[(&str, &str)]| -> Result<usize> {
        let before = heads();
        let mut request = client.raw(Method::HEAD, &format!("{path}{query}"))?;
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await?;
        Ok(heads() - before)
    };
    let (bearer, cookie) = (("authorization", token.as_str()), ("cookie", "session=a"));
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("", &[bearer]),
        ("?x=1", &[bearer]),
        ("?x=2", &[bearer]),
        ("", &[bearer, cookie]),
        ("", &[bearer, ("cookie", "session=b")]),
    ];
    for (query, headers) in cases {
        assert_eq!(asks(query, headers).await?, 1, "asked first: {query} {headers:?}");
        assert_eq!(asks(query, headers).await?, 0, "remembered: {query} {headers:?}");
    }
    let harmless = [bearer, ("accept", "*/*"), ("traceparent", "00-1-2-01"), ("x-request-id", "7")];
    assert_eq!(asks("", &harmless).await?, 0, "nothing of this opens anything");
    // Nobody knows which of two was judged.
    for _ in 0..2 {
        assert!(asks("", &[bearer, ("authorization", "Bearer other")]).await? > 0, "an ambiguous one");
    }
    Ok(())
}

/// HTTP/1.1 knows no white space around a value; over HTTP/2 it would arrive, and hide the token's end.
#[tokio::test]
async fn white_space_around_a_token_is_refused_over_http_2() -> Result<()> {
    let stage = Stage::new().await?;
    let client = tests::raw::client(&stage.gateway, "h2")?;
    let url = format!("{}/v2/{SECRET}/blobs/{}", stage.gateway.url(), stage.digest());
    let token = stage.token("admin", SECRET, json!({}))?;
    for (before, after, expected) in [
        ("", "", StatusCode::OK),
        (" ", "", StatusCode::BAD_REQUEST),
        ("\t", "", StatusCode::BAD_REQUEST),
        ("", " ", StatusCode::BAD_REQUEST),
    ] {
        let value = format!("{before}Bearer {token}{after}");
        let answer = client.get(&url).header("authorization", value).send().await?;
        assert_eq!(
            (answer.version(), answer.status()),
            (http::Version::HTTP_2, expected),
            "{before:?} {after:?}"
        );
    }
    Ok(())
}

/// A deleted repository: the registry's no beats the cache as soon as a yes is forgotten.
#[tokio::test]
async fn a_deleted_repository_is_gone_within_the_memory_of_a_yes() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"timeouts": {"permission": "1s"}})).await?;
    let image = Spec::layers(1, &[50_000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(SECRET, "v1", &image).await?;
    let path = format!("/v2/{SECRET}/blobs/{}", image.layers[0].digest);
    assert_eq!(client.fetch(Method::GET, &path, &[]).await?.status, StatusCode::OK);
    site.quay.delete_repository(SECRET);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(client.fetch(Method::GET, &path, &[]).await?.status.is_client_error());
    Ok(())
}

/// What the owner and somebody else are told of the layer at `HEAD`, both with a remembered yes before.
struct Told {
    stage: Stage,
    owner: Client,
    other: Client,
}

impl Told {
    async fn new() -> Result<Self> {
        let stage = Stage::new().await?;
        stage.site.quay.grant(SECRET, "mallory", false);
        let owner = stage.gateway.client(LOGIN)?;
        let other = stage.gateway.client(Some(("mallory", "mallory")))?;
        let told = Self { stage, owner, other };
        assert_eq!(told.heads().await?, [StatusCode::OK; 2]);
        Ok(told)
    }

    fn path(&self) -> String {
        format!("/v2/{SECRET}/blobs/{}", self.stage.digest())
    }

    async fn heads(&self) -> Result<[StatusCode; 2]> {
        let owner = self.owner.fetch(Method::HEAD, &self.path(), &[]).await?;
        let other = self.other.fetch(Method::HEAD, &self.path(), &[]).await?;
        Ok([owner.status, other.status])
    }

    /// The registry forgets the layer behind the gateway's back.
    fn collected(&self) {
        self.stage.site.quay.unlink(SECRET, &self.stage.digest());
    }
}

#[tokio::test]
async fn a_deletion_through_the_gateway_is_read_at_once() -> Result<()> {
    let told = Told::new().await?;
    told.collected();
    assert_eq!(told.heads().await?, [StatusCode::OK; 2], "remembered, until something is deleted");
    let target = format!("/v2/{SECRET}/manifests/v1");
    let deleted = told.owner.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert_eq!(told.heads().await?, [StatusCode::NOT_FOUND; 2]);
    assert_eq!(told.owner.fetch(Method::GET, &told.path(), &[]).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_deletion_that_is_refused_changes_nothing() -> Result<()> {
    let told = Told::new().await?;
    told.collected();
    let target = format!("/v2/{SECRET}/manifests/v1");
    let refused = told.other.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(told.heads().await?, [StatusCode::OK; 2]);
    Ok(())
}

/// Nobody can empty what is remembered while the registry cannot be reached: nothing was sent to it.
#[tokio::test]
async fn a_change_that_reached_nobody_changes_nothing() -> Result<()> {
    let told = Told::new().await?;
    told.stage.site.quay.down().await;
    let client = told.stage.gateway.client(None)?;
    for target in ["/v2/x%2F.%2Fa/manifests/v1".to_owned(), format!("/v2/{SECRET}/manifests/v1")] {
        let deleted = client.fetch(Method::DELETE, &target, &[("referer", "x")]).await?;
        assert_eq!(deleted.status, StatusCode::BAD_GATEWAY, "{target}");
        assert_eq!(told.heads().await?, [StatusCode::OK; 2], "{target}");
    }
    Ok(())
}

/// The client is gone before the registry has answered.
#[tokio::test]
async fn what_a_client_that_left_changed_is_what_the_registry_says() -> Result<()> {
    let told = Told::new().await?;
    told.collected();
    let quay = &told.stage.site.quay;
    let target = format!("/v2/{SECRET}/manifests/v1");
    let token = quay.token("admin", SECRET, &["*"], json!({}))?;
    for (token, expected) in [(None, StatusCode::OK), (Some(&token), StatusCode::NOT_FOUND)] {
        let before = quay.record().count(&Method::DELETE, &target);
        quay.set(|oddities| oddities.silent = true);
        let delete = told.stage.gateway.client(None)?.raw(Method::DELETE, &target)?;
        let delete = match token {
            Some(token) => delete.bearer_auth(token),
            None => delete,
        };
        let left = tokio::spawn(delete.send());
        while quay.record().count(&Method::DELETE, &target) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        left.abort();
        while !told.stage.gateway.log().contains("client left before the answer") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        quay.set(|oddities| oddities.silent = false);
        let mut heads = told.heads().await?;
        for _ in 0..1200 {
            if heads == [expected; 2] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            heads = told.heads().await?;
        }
        assert_eq!(heads, [expected; 2]);
    }
    Ok(())
}

/// The client had left a blob out because of what was remembered: its next try finds it missing.
#[tokio::test]
async fn a_manifest_that_lacks_a_blob_drops_what_was_remembered() -> Result<()> {
    let told = Told::new().await?;
    let image = &told.stage.image;
    // The push's own token has a yes too.
    told.owner.push_blob(SECRET, &image.layers[0]).await?;
    told.collected();
    let pushed = told.owner.push(SECRET, "v2", image).await;
    assert!(pushed.is_err_and(|error| error.to_string().contains("400")), "pushed without its layer");
    assert_eq!(told.heads().await?, [StatusCode::NOT_FOUND; 2]);
    told.owner.push(SECRET, "v2", image).await?;
    assert_eq!(told.heads().await?, [StatusCode::OK; 2]);
    Ok(())
}

#[tokio::test]
async fn one_clients_no_is_news_for_all() -> Result<()> {
    let told = Told::new().await?;
    told.collected();
    // With a token that was never seen.
    let token = told.stage.token("admin", SECRET, json!({"nonce": 1}))?;
    assert_eq!(told.stage.asked(SECRET, Some(&token)).await?, [StatusCode::NOT_FOUND; 2]);
    assert_eq!(told.heads().await?, [StatusCode::NOT_FOUND; 2]);
    Ok(())
}

#[tokio::test]
async fn no_token_reaches_a_store_or_the_log() -> Result<()> {
    let stage = Stage::new().await?;
    let token = stage.token("admin", SECRET, json!({}))?;
    stage.asked(SECRET, Some(&token)).await?;
    for zone in &stage.site.zones {
        for seen in zone.proxy().record().all() {
            assert!(!seen.header("authorization").starts_with("Bearer"), "a token at {}", zone.name);
        }
    }
    let log = stage.gateway.log();
    assert!(!log.contains(&token) && !log.contains("Bearer ey"), "a token in the log");
    assert!(!log.contains(&stage.site.zones[0].secret_key), "a key in the log");
    Ok(())
}
