//! Answers to requests for a blob: headers, paths, sizes.

use anyhow::Result;
use backends::Digest;
use bytes::Bytes;
use harness::image::{Layer, Spec};
use harness::site::LOGIN;
use http::{Method, StatusCode};
use serde_json::json;

use super::fixture::{Fixture, REPOSITORY, one_zone};

#[tokio::test]
async fn the_headers_are_those_of_a_registry() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let blob = fixture.layer();
    let client = fixture.gateway.client(LOGIN)?;
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

/// Some clients escape the colon in URLs. It is the same blob, and Quay gets the client's own bytes.
#[tokio::test]
async fn escaped_paths_are_the_same_blobs() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let (blob, client) = (fixture.layer(), fixture.gateway.client(LOGIN)?);
    let hex = blob.digest.hex();
    // Quay would redirect to a dead store.
    fixture.site.zone("zone-b").write(&blob.digest, &blob.bytes()?)?;
    fixture.site.zone("zone-a").proxy().down().await;
    let paths = ["%3A", "%3a"].map(|colon| format!("/v2/{REPOSITORY}/blobs/sha256{colon}{hex}"));
    for path in &paths {
        let answer = client.fetch(Method::GET, path, &[]).await?;
        assert!(answer.status == StatusCode::OK && answer.body == blob.bytes()?, "{path}: {}", answer.status);
    }
    assert!(fixture.site.quay.record().count(&Method::HEAD, &paths[0]) > 0, "Quay got other bytes");
    // An escaped slash is left to Quay.
    let odd = client.fetch(Method::GET, &format!("/v2/admin%2Fone/blobs/sha256:{hex}"), &[]).await?;
    assert_eq!(odd.header("cache-status"), "");
    Ok(())
}

/// A store, or a proxy in front of it, that uses chunked encoding. The registry knows the size, and the
/// digest proves the bytes.
#[tokio::test]
async fn a_store_without_lengths_works() -> Result<()> {
    let fixture = one_zone(json!({})).await?;
    fixture.site.zone("zone-a").proxy().set(|faults| faults.no_length = true);
    let client = fixture.gateway.client(LOGIN)?;
    for pulled in client.pull(REPOSITORY, "v1").await? {
        let miss = r#"quay-gateway; fwd=miss; stored; detail="zone=zone-a""#;
        assert_eq!(pulled.cache_status.as_deref(), Some(miss));
    }
    let zones = fixture.gateway.zones().await?;
    assert_eq!(zones["zones"][0]["state"], "healthy", "{zones}");
    assert!(zones["zones"][0]["last_error"].is_null(), "{zones}");
    Ok(())
}

/// Quay's database has a wrong size. The bytes match the digest, and the digest decides.
#[tokio::test]
async fn the_digest_decides_if_the_registry_has_a_wrong_size() -> Result<()> {
    for said in [100_000, 400_000] {
        let fixture = Fixture::plain().await?;
        let blob = fixture.layer();
        fixture.site.quay.set_size(&blob.digest, said);
        for _ in 0..2 {
            let beyond = fixture.get(&blob.digest, &[("range", "bytes=200000-200009")]).await?;
            assert_eq!(beyond.status, StatusCode::PARTIAL_CONTENT, "{said}");
            let whole = fixture.get(&blob.digest, &[]).await?;
            assert!(
                whole.status == StatusCode::OK && whole.body == blob.bytes()?,
                "{said}: {}",
                whole.status
            );
        }
        let client = fixture.gateway.client(LOGIN)?;
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let head = client.fetch(Method::HEAD, &path, &[]).await?;
        assert_eq!(head.header("content-length"), blob.size.to_string());
        fixture.gateway.logged("a wrong size was named for a blob").await?;
        let told = fixture.gateway.log().matches("a wrong size was named for a blob").count();
        assert_eq!(told, 1, "{said}");
    }
    Ok(())
}

/// Headers that describe a body must not be forwarded without the body: the registry would wait for it.
#[tokio::test]
async fn a_get_with_a_body_asks_the_registry_without_one() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let client = fixture.gateway.client(LOGIN)?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", fixture.layer().digest);
    let answer = client.send(Method::GET, &path, &[], Bytes::from(vec![b'x'; 200])).await?;
    assert_eq!(answer.bytes().await?, fixture.layer().bytes()?);
    for seen in fixture.site.quay.record().of(&Method::HEAD, &fixture.layer().digest.hex()) {
        assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), ("", ""));
    }
    Ok(())
}

#[tokio::test]
async fn tiny_and_empty_blobs() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let layers = vec![Layer::Raw(Vec::new()), Layer::Raw(vec![7]), Layer::Raw(b"{}".to_vec())];
    let image = Spec { layers, ..Spec::layers(3, &[]) }.build()?;
    fixture.gateway.client(LOGIN)?.push(REPOSITORY, "tiny", &image).await?;
    let empty = fixture.get(&Digest::EMPTY, &[]).await?;
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (StatusCode::OK, 0, "0"));
    for layer in &image.layers[1..] {
        assert_eq!(fixture.get(&layer.digest, &[]).await?.body, layer.bytes()?);
    }
    Ok(())
}
