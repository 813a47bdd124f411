//! Who may read: the registry decides, whatever the cache contains.

use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Blob, Image, Layer, Spec};
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const SECRET: &str = "admin/secret";

struct Fixture {
    site: Site,
    gateway: Gateway,
    /// An image of a private repository. Its layer is in the gateway's cache.
    image: Image,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let fixture = Self::with(&json!({})).await?;
        fixture.gateway.verifies_tokens().await?;
        Ok(fixture)
    }

    /// The registry is asked for each credential.
    async fn that_verifies_nothing() -> Result<Self> {
        Self::with(&json!({"auth": {"verify_tokens": false}})).await
    }

    async fn with(over: &Value) -> Result<Self> {
        let site = Site::start()?;
        site.quay.add_user("mallory", "mallory");
        let gateway = site.gateway(over).await?;
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

    /// The status of GET and HEAD of the cached layer with this token, or without one.
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
    let fixture = Fixture::new().await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let good = fixture.token("admin", SECRET, json!({}))?;
    assert_eq!(fixture.asked(SECRET, Some(&good)).await?, [StatusCode::OK; 2]);

    fixture.assert_refused("anonymous", SECRET, None).await?;
    let other = fixture.token("mallory", "mallory/own", json!({}))?;
    fixture.assert_refused("a token of another repository", SECRET, Some(&other)).await?;
    let expired =
        fixture.token("admin", SECRET, json!({"nbf": now - 4000, "iat": now - 4000, "exp": now - 400}))?;
    fixture.assert_refused("an expired token", SECRET, Some(&expired)).await?;
    let foreign = fixture.token("admin", SECRET, json!({"aud": "another.example.com"}))?;
    fixture.assert_refused("a token for another registry", SECRET, Some(&foreign)).await?;
    let (body, _) = good.rsplit_once('.').expect("a JWT");
    fixture.assert_refused("a forged token", SECRET, Some(&format!("{body}.Zm9yZ2Vk"))).await?;
    fixture.assert_refused("garbage", SECRET, Some("garbage")).await?;
    Ok(())
}

#[tokio::test]
async fn a_digest_belongs_to_its_repository_only() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.quay.add_repository("mallory/own", false);
    let own = fixture.token("mallory", "mallory/own", json!({}))?;
    fixture.assert_refused("by digest from a foreign repository", "mallory/own", Some(&own)).await?;
    Ok(())
}

/// A manifest that only names a stranger's digest makes nothing readable.
#[tokio::test]
async fn naming_a_strangers_layer_links_nothing() -> Result<()> {
    let fixture = Fixture::new().await?;
    let client = fixture.gateway.client(Some(("mallory", "mallory")))?;
    let (digest, size) = (fixture.digest(), fixture.image.layers[0].size);
    let urls = vec!["https://example.com/layer".to_owned()];
    for (tag, layer) in [
        ("urls", Layer::Foreign(digest, size, urls)),
        ("nondistributable", Layer::Nondistributable(digest, size)),
    ] {
        let trap = Spec { layers: vec![layer], ..Spec::layers(9, &[]) }.build()?;
        client.push_blob("mallory/own", &trap.config).await?;
        // The registry may accept the manifest or not. In both cases nothing becomes readable.
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
    let fixture = Fixture::new().await?;
    fixture.site.quay.add_repository("admin/public", true);
    fixture.gateway.client(LOGIN)?.push("admin/public", "v1", &fixture.image).await?;
    assert_eq!(fixture.asked("admin/public", None).await?, [StatusCode::OK; 2]);
    assert_eq!(fixture.asked("admin/public", Some("garbage")).await?, [StatusCode::UNAUTHORIZED; 2]);
    fixture.assert_refused("still private", SECRET, None).await
}

#[tokio::test]
async fn only_a_yes_is_remembered() -> Result<()> {
    let fixture = Fixture::that_verifies_nothing().await?;
    let path = format!("/v2/{SECRET}/blobs/");
    let heads = || fixture.site.quay.record().count(&Method::HEAD, &path);
    let token = fixture.token("admin", SECRET, json!({}))?;
    let before = heads();
    for _ in 0..3 {
        assert_eq!(fixture.asked(SECRET, Some(&token)).await?, [StatusCode::OK; 2]);
    }
    assert_eq!(heads(), before + 1, "asked once for six reads");
    for n in 1..=3 {
        fixture.assert_refused("anonymous", SECRET, None).await?;
        assert!(heads() > before + n, "a no was remembered");
    }
    Ok(())
}

/// If the registry may have considered other parts of the request, its yes is valid only for the same parts.
#[tokio::test]
async fn a_yes_is_valid_only_for_an_equal_request() -> Result<()> {
    let fixture = Fixture::that_verifies_nothing().await?;
    let path = format!("/v2/{SECRET}/blobs/{}", fixture.digest());
    let heads = || fixture.site.quay.record().count(&Method::HEAD, &path);
    let token = format!("Bearer {}", fixture.token("admin", SECRET, json!({}))?);
    let client = fixture.gateway.client(None)?;
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
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let harmless = [bearer, ("accept", "*/*"), ("traceparent", traceparent), ("x-request-id", "7")];
    assert_eq!(asks("", &harmless).await?, 0, "these headers do not matter");
    // It is unknown which of two credentials the registry used.
    for _ in 0..2 {
        assert!(
            asks("", &[bearer, ("authorization", "Bearer other")]).await? > 0,
            "the credentials are ambiguous"
        );
    }
    Ok(())
}

/// HTTP/1.1 removes white space around a value. HTTP/2 keeps it, and it would hide the end of the token.
#[tokio::test]
async fn white_space_around_a_token_is_refused_over_http_2() -> Result<()> {
    let fixture = Fixture::new().await?;
    let client = harness::raw::client(&fixture.gateway, "h2")?;
    let url = format!("{}/v2/{SECRET}/blobs/{}", fixture.gateway.url(), fixture.digest());
    let token = fixture.token("admin", SECRET, json!({}))?;
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

/// After a repository is deleted, the registry's no counts as soon as the remembered yes expires.
#[tokio::test]
async fn a_deleted_repository_is_unreadable_when_the_yes_expires() -> Result<()> {
    let site = Site::start()?;
    let gateway =
        site.gateway(&json!({"timeouts": {"permission": "1s"}, "auth": {"freshness": "1s"}})).await?;
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

/// The answers to HEAD of the layer for the owner and for another client. Both have a remembered yes.
struct TwoReaders {
    fixture: Fixture,
    owner: Client,
    other: Client,
}

impl TwoReaders {
    async fn new() -> Result<Self> {
        let fixture = Fixture::that_verifies_nothing().await?;
        fixture.site.quay.grant(SECRET, "mallory", false);
        let owner = fixture.gateway.client(LOGIN)?;
        let other = fixture.gateway.client(Some(("mallory", "mallory")))?;
        let readers = Self { fixture, owner, other };
        assert_eq!(readers.heads().await?, [StatusCode::OK; 2]);
        Ok(readers)
    }

    fn path(&self) -> String {
        format!("/v2/{SECRET}/blobs/{}", self.fixture.digest())
    }

    async fn heads(&self) -> Result<[StatusCode; 2]> {
        let owner = self.owner.fetch(Method::HEAD, &self.path(), &[]).await?;
        let other = self.other.fetch(Method::HEAD, &self.path(), &[]).await?;
        Ok([owner.status, other.status])
    }

    /// The registry loses the layer without the gateway's knowledge.
    fn collected(&self) {
        self.fixture.site.quay.unlink(SECRET, &self.fixture.digest());
    }
}

#[tokio::test]
async fn a_deletion_through_the_gateway_is_read_at_once() -> Result<()> {
    let readers = TwoReaders::new().await?;
    readers.collected();
    assert_eq!(readers.heads().await?, [StatusCode::OK; 2], "the yes is remembered until a deletion");
    let target = format!("/v2/{SECRET}/manifests/v1");
    let deleted = readers.owner.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert_eq!(readers.heads().await?, [StatusCode::NOT_FOUND; 2]);
    assert_eq!(readers.owner.fetch(Method::GET, &readers.path(), &[]).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_deletion_that_is_refused_changes_nothing() -> Result<()> {
    let readers = TwoReaders::new().await?;
    readers.collected();
    let target = format!("/v2/{SECRET}/manifests/v1");
    let refused = readers.other.fetch(Method::DELETE, &target, &[]).await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(readers.heads().await?, [StatusCode::OK; 2]);
    Ok(())
}

/// While the registry cannot be reached, a deletion drops nothing that is remembered: it was not sent.
#[tokio::test]
async fn a_deletion_that_was_not_sent_changes_nothing() -> Result<()> {
    let readers = TwoReaders::new().await?;
    readers.fixture.site.quay.down().await;
    let client = readers.fixture.gateway.client(None)?;
    for target in ["/v2/x%2F.%2Fa/manifests/v1".to_owned(), format!("/v2/{SECRET}/manifests/v1")] {
        let deleted = client.fetch(Method::DELETE, &target, &[("referer", "x")]).await?;
        assert_eq!(deleted.status, StatusCode::BAD_GATEWAY, "{target}");
        assert_eq!(readers.heads().await?, [StatusCode::OK; 2], "{target}");
    }
    Ok(())
}

/// The client leaves before the registry answers.
#[tokio::test]
async fn a_deletion_by_a_client_that_left_takes_effect() -> Result<()> {
    let readers = TwoReaders::new().await?;
    readers.collected();
    let quay = &readers.fixture.site.quay;
    let target = format!("/v2/{SECRET}/manifests/v1");
    let token = quay.token("admin", SECRET, &["*"], json!({}))?;
    for (token, expected) in [(None, StatusCode::OK), (Some(&token), StatusCode::NOT_FOUND)] {
        let before = quay.record().count(&Method::DELETE, &target);
        quay.set(|faults| faults.silent = true);
        let delete = readers.fixture.gateway.client(None)?.raw(Method::DELETE, &target)?;
        let delete = match token {
            Some(token) => delete.bearer_auth(token),
            None => delete,
        };
        let left = tokio::spawn(delete.send());
        while quay.record().count(&Method::DELETE, &target) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        left.abort();
        readers.fixture.gateway.logged("client left before the answer").await?;
        quay.set(|faults| faults.silent = false);
        let mut heads = readers.heads().await?;
        for _ in 0..1200 {
            if heads == [expected; 2] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            heads = readers.heads().await?;
        }
        assert_eq!(heads, [expected; 2]);
    }
    Ok(())
}

/// The client has skipped a blob because of a remembered yes. Its next try must report the blob as missing.
#[tokio::test]
async fn a_manifest_with_a_missing_blob_clears_the_remembered_yes() -> Result<()> {
    let readers = TwoReaders::new().await?;
    let image = &readers.fixture.image;
    // The token of the push also has a remembered yes.
    readers.owner.push_blob(SECRET, &image.layers[0]).await?;
    readers.collected();
    let pushed = readers.owner.push(SECRET, "v2", image).await;
    assert!(
        pushed.is_err_and(|error| error.to_string().contains("400")),
        "the push succeeded without its layer"
    );
    assert_eq!(readers.heads().await?, [StatusCode::NOT_FOUND; 2]);
    readers.owner.push(SECRET, "v2", image).await?;
    assert_eq!(readers.heads().await?, [StatusCode::OK; 2]);
    Ok(())
}

#[tokio::test]
async fn a_no_for_one_client_clears_the_yes_of_all() -> Result<()> {
    let readers = TwoReaders::new().await?;
    readers.collected();
    // With a token that was not used before.
    let token = readers.fixture.token("admin", SECRET, json!({"nonce": 1}))?;
    assert_eq!(readers.fixture.asked(SECRET, Some(&token)).await?, [StatusCode::NOT_FOUND; 2]);
    assert_eq!(readers.heads().await?, [StatusCode::NOT_FOUND; 2]);
    Ok(())
}

#[tokio::test]
async fn no_token_reaches_a_store_or_the_log() -> Result<()> {
    let fixture = Fixture::new().await?;
    let token = fixture.token("admin", SECRET, json!({}))?;
    fixture.asked(SECRET, Some(&token)).await?;
    for zone in &fixture.site.zones {
        for seen in zone.proxy().record().all() {
            assert!(!seen.header("authorization").starts_with("Bearer"), "a token at {}", zone.name);
        }
    }
    let log = fixture.gateway.log();
    assert!(!log.contains(&token) && !log.contains("Bearer ey"), "a token in the log");
    assert!(!log.contains(&fixture.site.zones[0].secret_key), "a key in the log");
    Ok(())
}
