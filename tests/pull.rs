//! Pulls through the whole gateway: cache, zones, ranges, and the registry's own way.

use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tests::client::Answer;
use tests::gateway::Gateway;
use tests::image::{Blob, Image, Layer, Spec};
use tests::quay::{Delivery, Options};
use tests::site::{LOGIN, Site};

const REPOSITORY: &str = "admin/one";

/// A site, a gateway, and an image that Quay took past the gateway: it lies in zone-a alone.
struct Stage {
    site: Site,
    gateway: Gateway,
    image: Image,
}

impl Stage {
    async fn new(options: Options, config: serde_json::Value) -> Result<Self> {
        let site = Site::with(&["zone-a", "zone-b", "zone-c"].map(|name| (name, Duration::ZERO)), options)?;
        let gateway = site.gateway(&config).await?;
        let image = Spec::layers(1, &[300_000, 20_000]).build()?;
        tests::client::Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        Ok(Self { site, gateway, image })
    }

    async fn plain() -> Result<Self> {
        Self::new(Options::default(), json!({})).await
    }

    fn layer(&self) -> &Blob {
        &self.image.layers[0]
    }

    async fn get(&self, digest: &Digest, headers: &[(&str, &str)]) -> Result<Answer> {
        let client = self.gateway.client(LOGIN)?;
        client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/blobs/{digest}"), headers).await
    }
}

#[tokio::test]
async fn cold_from_home_then_warm_from_the_cache() -> Result<()> {
    let stage = Stage::plain().await?;
    let client = stage.gateway.client(LOGIN)?;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        let miss = r#"quay-gateway; fwd=miss; stored; detail="zone=zone-a""#;
        assert_eq!(pulled.cache_status.as_deref(), Some(miss));
    }
    stage.site.zone("zone-a").proxy().down().await;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}

#[tokio::test]
async fn the_headers_are_a_registrys_own() -> Result<()> {
    let stage = Stage::plain().await?;
    let blob = stage.layer();
    let client = stage.gateway.client(LOGIN)?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let head = client.fetch(Method::HEAD, &path, &[]).await?;
    let get = client.fetch(Method::GET, &path, &[]).await?;
    for answer in [&head, &get] {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("docker-content-digest"), blob.digest.to_string());
        assert_eq!(answer.header("etag"), format!("\"{}\"", blob.digest));
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("content-length"), blob.size.to_string());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
    }
    assert_eq!(get.body, blob.bytes()?);
    let etag = format!("\"{}\"", blob.digest);
    let unchanged = client.fetch(Method::GET, &path, &[("if-none-match", &etag)]).await?;
    assert_eq!((unchanged.status, unchanged.body.len()), (StatusCode::NOT_MODIFIED, 0));
    Ok(())
}

#[tokio::test]
async fn ranges_on_misses_and_on_hits() -> Result<()> {
    let stage = Stage::plain().await?;
    let blob = stage.layer();
    let bytes = blob.bytes()?;
    let size = bytes.len();
    let etag = format!("\"{}\"", blob.digest);
    // The first is a miss: the whole comes in, the part goes out.
    for round in ["miss", "hit"] {
        let part = stage.get(&blob.digest, &[("range", "bytes=1000-1999")]).await?;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{round}");
        assert_eq!(part.header("content-range"), format!("bytes 1000-1999/{size}"));
        assert_eq!(part.body, bytes[1000..2000]);
    }
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=-7", size - 7..size),
        ("bytes=5-", 5..size),
        ("bytes=299000-99999999", 299_000..size),
    ] {
        let part = stage.get(&blob.digest, &[("range", range), ("if-range", &etag)]).await?;
        assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &bytes[expected]), "{range}");
    }
    for (headers, status) in [
        (vec![("range", "bytes=99999999-")], StatusCode::RANGE_NOT_SATISFIABLE),
        (vec![("range", "bytes=abc")], StatusCode::RANGE_NOT_SATISFIABLE),
        (vec![("range", "bytes=0-1"), ("if-range", "\"another\"")], StatusCode::OK),
        (vec![("range", "bytes=0-1,4-5")], StatusCode::OK),
    ] {
        let answer = stage.get(&blob.digest, &headers).await?;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
        }
    }
    Ok(())
}

/// Clients whose URL builders escape the colon: the same blob, and Quay is asked with their own bytes.
#[tokio::test]
async fn escaped_paths_are_the_same_blobs() -> Result<()> {
    let stage = Stage::plain().await?;
    let (blob, client) = (stage.layer(), stage.gateway.client(LOGIN)?);
    let hex = blob.digest.hex();
    // Quay's own redirect would lead to a dead store.
    stage.site.zone("zone-b").write(&blob.digest, &blob.bytes()?)?;
    stage.site.zone("zone-a").proxy().down().await;
    let paths = ["%3A", "%3a"].map(|colon| format!("/v2/{REPOSITORY}/blobs/sha256{colon}{hex}"));
    for path in &paths {
        let answer = client.fetch(Method::GET, path, &[]).await?;
        assert!(answer.status == StatusCode::OK && answer.body == blob.bytes()?, "{path}: {}", answer.status);
    }
    assert!(stage.site.quay.record().count(&Method::HEAD, &paths[0]) > 0, "asked with other bytes");
    // An escaped slash is Quay's to judge.
    let odd = client.fetch(Method::GET, &format!("/v2/admin%2Fone/blobs/sha256:{hex}"), &[]).await?;
    assert_eq!(odd.header("cache-status"), "");
    Ok(())
}

/// One zone, so that there is no other to go on in, and an image that lies there alone.
async fn one_zone(config: serde_json::Value) -> Result<Stage> {
    let site = Site::with(&[("zone-a", Duration::ZERO)], Options::default())?;
    let gateway = site.gateway(&config).await?;
    let image = Spec::layers(1, &[300_000, 20_000]).build()?;
    tests::client::Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    Ok(Stage { site, gateway, image })
}

/// Whether the blob is kept, and whether it is not.
fn kept_or_not() -> [serde_json::Value; 2] {
    [json!({}), json!({"cache": {"size": "128KiB"}})]
}

/// A client that lost its connection asks for the rest, and takes a part only.
#[tokio::test]
async fn parts_are_answered_as_such_while_the_blob_comes_in() -> Result<()> {
    for config in kept_or_not() {
        let stage = one_zone(config).await?;
        let slow = |rate| stage.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = rate);
        // A quarter of a minute for the whole at least.
        slow(Some(20_000));
        let (blob, client) = (stage.layer(), stage.gateway.client(LOGIN)?);
        let (bytes, size) = (blob.bytes()?, blob.size as usize);
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let mut parts = Vec::new();
        for (range, expected) in [
            ("bytes=0-", 0..size),
            ("bytes=1000-1999", 1000..2000),
            ("bytes=200000-", 200_000..size),
            ("bytes=-5", size - 5..size),
            ("bytes=0-0", 0..1),
        ] {
            let answer = client.send(Method::GET, &path, &[("range", range)], Bytes::new()).await?;
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            let described = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!(answer.headers()["content-range"], described.as_str());
            parts.push((answer, expected));
        }
        let head = client.fetch(Method::HEAD, &path, &[]).await?;
        assert_eq!(head.header("cache-status"), "quay-gateway; fwd=miss", "it is whole already");
        let beyond = client.fetch(Method::GET, &path, &[("range", "bytes=99999999-")]).await?;
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(beyond.header("content-range"), format!("bytes */{size}"));
        slow(None);
        for (answer, expected) in parts {
            assert!(answer.bytes().await? == bytes[expected.clone()], "other bytes than {expected:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_part_of_a_wrong_blob_is_completed() -> Result<()> {
    for config in kept_or_not() {
        let stage = one_zone(config).await?;
        let (blob, client) = (stage.layer(), stage.gateway.client(LOGIN)?);
        stage.site.zone("zone-a").corrupt(&blob.digest, 290_000)?;
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let answer = client.send(Method::GET, &path, &[("range", "bytes=100-199")], Bytes::new()).await?;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert!(answer.bytes().await.is_err(), "a part was completed");
    }
    Ok(())
}

/// A store, or a proxy before it, that sends chunks: the registry knows the size, the digest proves it.
#[tokio::test]
async fn a_store_that_names_no_lengths_serves() -> Result<()> {
    let stage = one_zone(json!({})).await?;
    stage.site.zone("zone-a").proxy().set(|faults| faults.no_length = true);
    let client = stage.gateway.client(LOGIN)?;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        let miss = r#"quay-gateway; fwd=miss; stored; detail="zone=zone-a""#;
        assert_eq!(pulled.cache_status.as_deref(), Some(miss));
    }
    let zones = stage.gateway.zones().await?;
    assert_eq!(zones["zones"][0]["state"], "healthy", "{zones}");
    assert!(zones["zones"][0]["last_error"].is_null(), "{zones}");
    Ok(())
}

/// Quay's database is wrong about a size: the bytes have the right digest, and that counts.
#[tokio::test]
async fn bytes_beat_the_size_that_the_registry_names() -> Result<()> {
    for said in [100_000, 400_000] {
        let stage = Stage::plain().await?;
        let blob = stage.layer();
        stage.site.quay.set_size(&blob.digest, said);
        for _ in 0..2 {
            let beyond = stage.get(&blob.digest, &[("range", "bytes=200000-200009")]).await?;
            assert_eq!(beyond.status, StatusCode::PARTIAL_CONTENT, "{said}");
            let whole = stage.get(&blob.digest, &[]).await?;
            assert!(
                whole.status == StatusCode::OK && whole.body == blob.bytes()?,
                "{said}: {}",
                whole.status
            );
        }
        let client = stage.gateway.client(LOGIN)?;
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let head = client.fetch(Method::HEAD, &path, &[]).await?;
        assert_eq!(head.header("content-length"), blob.size.to_string());
        let told = stage.gateway.log().matches("a wrong size was named for a blob").count();
        assert_eq!(told, 1, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn many_clients_cost_the_zone_one_read() -> Result<()> {
    let stage = Stage::plain().await?;
    stage.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = Some(1_000_000));
    let blob = stage.layer();
    let pulls = (0..20).map(|_| stage.get(&blob.digest, &[]));
    for answer in futures_util::future::join_all(pulls).await {
        assert_eq!(answer?.body, blob.bytes()?);
    }
    let key = blob.digest.hex();
    assert_eq!(stage.site.zone("zone-a").proxy().record().reads(&key).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_stops_nothing() -> Result<()> {
    let stage = Stage::plain().await?;
    stage.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = Some(300_000));
    let blob = stage.layer();
    let client = stage.gateway.client(LOGIN)?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let response = client.send(Method::GET, &path, &[], bytes::Bytes::new()).await?;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    let hit = "quay-gateway; hit";
    for _ in 0..4000 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let cached =
            stage.gateway.cache_dir().join("sha256").join(&blob.digest.hex()[..2]).join(blob.digest.hex());
        if cached.is_file() {
            assert_eq!(stage.get(&blob.digest, &[]).await?.header("cache-status"), hit);
            return Ok(());
        }
    }
    panic!("the fill stopped with its client");
}

#[tokio::test]
async fn the_cache_survives_a_restart() -> Result<()> {
    let mut stage = Stage::plain().await?;
    let digest = stage.layer().digest;
    stage.get(&digest, &[]).await?;
    assert!(stage.gateway.terminate().await?.success());
    stage.gateway.spawn().await?;
    stage.site.zone("zone-a").proxy().down().await;
    assert_eq!(stage.get(&digest, &[]).await?.header("cache-status"), "quay-gateway; hit");
    Ok(())
}

#[tokio::test]
async fn what_home_lacks_comes_from_another_zone_and_is_repaired() -> Result<()> {
    let stage = Stage::plain().await?;
    let blob = stage.layer();
    stage.site.zone("zone-c").write(&blob.digest, &blob.bytes()?)?;
    stage.site.zone("zone-a").delete(&blob.digest)?;
    let answer = stage.get(&blob.digest, &[]).await?;
    assert_eq!(answer.body, blob.bytes()?);
    assert!(answer.header("cache-status").contains("zone=zone-c"));
    for _ in 0..4000 {
        if stage.site.zone("zone-a").has(&blob.digest) {
            assert_eq!(stage.site.zone("zone-a").read(&blob.digest)?, blob.bytes()?);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no copy came home");
}

/// A gateway that is told of `zones` alone, not of those that Quay writes to: it must go Quay's
/// way.
async fn beside(site: Site, zones: serde_json::Value) -> Result<Stage> {
    let mut quay = site.quay.config();
    for key in [
        "DISTRIBUTED_STORAGE_CONFIG",
        "DISTRIBUTED_STORAGE_PREFERENCE",
        "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS",
    ] {
        quay.as_object_mut().expect("an object").remove(key);
    }
    // That store is on loopback, at a port that the gateway's configuration does not name.
    let named = json!({"redirects_to": ["127.0.0.1"]});
    let config = site.gateway_config(&json!({ "zones": zones, "registry": named }));
    let gateway = Gateway::start(&config, &[("quay.yaml", &quay.to_string())]).await?;
    let image = Spec::layers(1, &[300_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    Ok(Stage { site, gateway, image })
}

async fn through_quay(options: Options) -> Result<Stage> {
    let empty = tempfile::tempdir()?;
    let zones = json!({"elsewhere": ["LocalStorage", {"storage_path": empty.path()}]});
    beside(Site::with(&[("zone-a", Duration::ZERO)], options)?, zones).await
}

async fn served_and_kept(stage: &Stage, from: &str) -> Result<()> {
    let blob = stage.layer();
    let miss = stage.get(&blob.digest, &[]).await?;
    assert_eq!((miss.status, &miss.body), (StatusCode::OK, &blob.bytes()?));
    assert_eq!(miss.header("cache-status"), format!("quay-gateway; fwd=miss; stored; detail=\"{from}\""));
    let hit = stage.get(&blob.digest, &[("range", "bytes=5-9")]).await?;
    assert_eq!((hit.status, &hit.body[..]), (StatusCode::PARTIAL_CONTENT, &blob.bytes()?[5..10]));
    Ok(())
}

#[tokio::test]
async fn quays_redirect_is_followed_without_the_clients_token() -> Result<()> {
    let stage = through_quay(Options::default()).await?;
    served_and_kept(&stage, "registry-redirect").await?;
    let store = stage.site.zone("zone-a").proxy().record().reads(&stage.layer().digest.hex());
    assert_eq!(store.len(), 1);
    assert_eq!(store[0].header("authorization"), "");
    Ok(())
}

/// Some ask while another's fill is still asking the zones in vain.
#[tokio::test]
async fn many_pulls_of_what_only_the_registry_has() -> Result<()> {
    let zones = [("zone-a", Duration::from_millis(20)), ("zone-b", Duration::from_millis(40))];
    let site = Site::with(&zones, Options::default())?;
    let other = json!({"zone-b": site.zone("zone-b").location().quay_entry()});
    let stage = beside(site, other).await?;
    let pulls = (0..12).map(|n| {
        let stage = &stage;
        async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            stage.get(&stage.layer().digest, &[]).await
        }
    });
    for answer in futures_util::future::join_all(pulls).await {
        let answer = answer?;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, stage.layer().bytes()?));
    }
    Ok(())
}

/// What describes a body must not go on without it: the registry would wait for the rest.
#[tokio::test]
async fn a_get_with_a_body_asks_the_registry_without_one() -> Result<()> {
    let stage = Stage::plain().await?;
    let client = stage.gateway.client(LOGIN)?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", stage.layer().digest);
    let answer = client.send(Method::GET, &path, &[], bytes::Bytes::from(vec![b'x'; 200])).await?;
    assert_eq!(answer.bytes().await?, stage.layer().bytes()?);
    for seen in stage.site.quay.record().of(&Method::HEAD, &stage.layer().digest.hex()) {
        assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), ("", ""));
    }
    Ok(())
}

#[tokio::test]
async fn quays_stream_is_taken_as_it_is() -> Result<()> {
    let stage = through_quay(Options { delivery: Delivery::Stream, ..Options::default() }).await?;
    served_and_kept(&stage, "registry").await
}

#[tokio::test]
async fn storage_proxy_is_dialled_at_the_registry() -> Result<()> {
    // In split DNS the registry's name is the gateway itself: dialling it would be a loop.
    let hostname = Some("quay.example.com".into());
    let stage =
        through_quay(Options { delivery: Delivery::StorageProxy, hostname, ..Options::default() }).await?;
    served_and_kept(&stage, "registry").await
}

#[tokio::test]
async fn a_dead_end_at_the_registry_is_a_clear_error() -> Result<()> {
    let stage = through_quay(Options::default()).await?;
    stage.site.zone("zone-a").proxy().down().await;
    let answer = stage.get(&stage.layer().digest, &[]).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(body["errors"][0]["detail"]["fault"], "zone");
    assert!(!String::from_utf8_lossy(&answer.body).contains("Signature"), "a signature leaked");
    assert!(!stage.gateway.log().contains("X-Amz-Signature"), "a signature leaked into the log");
    Ok(())
}

#[tokio::test]
async fn tiny_and_empty_blobs() -> Result<()> {
    let stage = Stage::plain().await?;
    let layers = vec![Layer::Raw(Vec::new()), Layer::Raw(vec![7]), Layer::Raw(b"{}".to_vec())];
    let image = Spec { layers, ..Spec::layers(3, &[]) }.build()?;
    stage.gateway.client(LOGIN)?.push(REPOSITORY, "tiny", &image).await?;
    let empty = stage.get(&Digest::EMPTY, &[]).await?;
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (StatusCode::OK, 0, "0"));
    for layer in &image.layers[1..] {
        assert_eq!(stage.get(&layer.digest, &[]).await?.body, layer.bytes()?);
    }
    Ok(())
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_is_streamed() -> Result<()> {
    let config = json!({"cache": {"size": "100KiB"}});
    let stage = Stage::new(Options::default(), config).await?;
    let blob = stage.layer();
    for _ in 0..2 {
        let answer = stage.get(&blob.digest, &[]).await?;
        assert_eq!((answer.status, answer.body.clone()), (StatusCode::OK, blob.bytes()?));
        assert_eq!(
            answer.header("cache-status"),
            r#"quay-gateway; fwd=miss; detail="zone=zone-a, not stored: too-large""#
        );
    }
    Ok(())
}

/// One request whose client leaves at once does not cost what others ask for again and again.
#[tokio::test]
async fn an_abandoned_request_evicts_nothing() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"cache": {"size": "16MiB"}})).await?;
    let client = gateway.client(LOGIN)?;
    let twelve = Spec::layers(1, &[1_000_000; 12]).build()?;
    let large = Spec::layers(2, &[13_000_000]).build()?;
    for (tag, image) in [("twelve", &twelve), ("large", &large)] {
        client.push(REPOSITORY, tag, image).await?;
    }
    for _ in 0..2 {
        client.pull(REPOSITORY, "twelve").await?;
    }
    let path = format!("/v2/{REPOSITORY}/blobs/{}", large.layers[0].digest);
    let token = site.quay.token("admin", REPOSITORY, &["pull"], json!({}))?;
    let abandoned = client.raw(Method::GET, &path)?.bearer_auth(token).send().await?;
    assert_eq!(abandoned.status(), StatusCode::OK);
    drop(abandoned);
    while gateway.status().await?["cache"]["fills"] != 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for layer in &twelve.layers {
        let pulled = client.pull_blob(REPOSITORY, &layer.digest).await?;
        assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    }
    Ok(())
}
