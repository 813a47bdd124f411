//! Ranges, on misses, on hits and during a fill.

use anyhow::Result;
use bytes::Bytes;
use harness::site::LOGIN;
use http::{Method, StatusCode};
use serde_json::json;

use super::fixture::{Fixture, REPOSITORY, one_zone};

#[tokio::test]
async fn ranges_on_misses_and_on_hits() -> Result<()> {
    let fixture = Fixture::plain().await?;
    let blob = fixture.layer();
    let bytes = blob.bytes()?;
    let size = bytes.len();
    let etag = format!("\"{}\"", blob.digest);
    // The first request is a miss: the whole blob is fetched, and a part is sent.
    for round in ["miss", "hit"] {
        let part = fixture.get(&blob.digest, &[("range", "bytes=1000-1999")]).await?;
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
        let part = fixture.get(&blob.digest, &[("range", range), ("if-range", &etag)]).await?;
        assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &bytes[expected]), "{range}");
    }
    for (headers, status) in [
        (vec![("range", "bytes=99999999-")], StatusCode::RANGE_NOT_SATISFIABLE),
        (vec![("range", "bytes=abc")], StatusCode::RANGE_NOT_SATISFIABLE),
        (vec![("range", "bytes=0-1"), ("if-range", "\"another\"")], StatusCode::OK),
        (vec![("range", "bytes=0-1,4-5")], StatusCode::OK),
    ] {
        let answer = fixture.get(&blob.digest, &headers).await?;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
        }
    }
    Ok(())
}

/// Configurations with and without room for the blob in the cache.
fn kept_or_not() -> [serde_json::Value; 2] {
    [json!({}), json!({"cache": {"size": "128KiB"}})]
}

/// A client that lost its connection asks for the rest or for a part.
#[tokio::test]
async fn ranges_are_answered_while_the_blob_is_fetched() -> Result<()> {
    for config in kept_or_not() {
        let fixture = one_zone(config).await?;
        let slow = |rate| fixture.site.zone("zone-a").proxy().set(|faults| faults.bandwidth = rate);
        // The whole blob takes at least a quarter of a minute.
        slow(Some(20_000));
        let (blob, client) = (fixture.layer(), fixture.gateway.client(LOGIN)?);
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
        assert_eq!(head.header("cache-status"), "quay-gateway; fwd=miss", "the blob is already complete");
        let beyond = client.fetch(Method::GET, &path, &[("range", "bytes=99999999-")]).await?;
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(beyond.header("content-range"), format!("bytes */{size}"));
        slow(None);
        for (answer, expected) in parts {
            assert!(answer.bytes().await? == bytes[expected.clone()], "wrong bytes for {expected:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_part_of_a_wrong_blob_is_completed() -> Result<()> {
    for config in kept_or_not() {
        let fixture = one_zone(config).await?;
        let (blob, client) = (fixture.layer(), fixture.gateway.client(LOGIN)?);
        fixture.site.zone("zone-a").corrupt(&blob.digest, 290_000)?;
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let answer = client.send(Method::GET, &path, &[("range", "bytes=100-199")], Bytes::new()).await?;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert!(answer.bytes().await.is_err(), "a part was completed");
    }
    Ok(())
}
