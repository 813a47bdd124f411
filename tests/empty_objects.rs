//! Objects that were truncated to zero bytes, and a registry that reports that size. Zero bytes are a valid
//! blob only for the digest of zero bytes.

use std::time::Duration;

use anyhow::Result;
use harness::client::{Answer, Client};
use harness::gateway::Gateway;
use harness::image::{Blob, Spec};
use harness::quay::{Delivery, Options};
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/one";

/// A blob whose object in `zone-a`, the zone that the registry uses, is empty. The registry reports that
/// size.
struct Fixture {
    site: Site,
    gateway: Gateway,
    blob: Blob,
}

impl Fixture {
    async fn new(zones: &[&'static str], delivery: Delivery) -> Result<Self> {
        let zones: Vec<_> = zones.iter().map(|name| (*name, Duration::ZERO)).collect();
        let site = Site::with(&zones, Options { delivery, ..Options::default() })?;
        let gateway = site.gateway(&json!({})).await?;
        let mut image = Spec::layers(1, &[50_000]).build()?;
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        let blob = image.layers.remove(0);
        site.zone("zone-a").truncate(&blob.digest, 0)?;
        site.quay.set_size(&blob.digest, 0);
        Ok(Self { site, gateway, blob })
    }

    async fn ask(&self, method: Method) -> Result<Answer> {
        let path = format!("/v2/{REPOSITORY}/blobs/{}", self.blob.digest);
        self.gateway.client(LOGIN)?.fetch(method, &path, &[]).await
    }
}

#[tokio::test]
async fn another_zone_has_the_bytes() -> Result<()> {
    let fixture = Fixture::new(&["zone-a", "zone-b"], Delivery::Redirect).await?;
    fixture.site.zone("zone-b").write(&fixture.blob.digest, &fixture.blob.bytes()?)?;
    let head = fixture.ask(Method::HEAD).await?;
    assert_eq!(head.header("content-length"), fixture.blob.size.to_string());
    for source in ["zone=zone-b", "hit"] {
        let answer = fixture.ask(Method::GET).await?;
        assert_eq!((answer.status, answer.body.len() as u64), (StatusCode::OK, fixture.blob.size));
        assert!(answer.body == fixture.blob.bytes()?, "other bytes");
        assert!(answer.header("cache-status").contains(source), "{}", answer.header("cache-status"));
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_object_is_an_error_and_is_not_cached() -> Result<()> {
    for delivery in [Delivery::Stream, Delivery::Redirect] {
        let fixture = Fixture::new(&["zone-a"], delivery).await?;
        for _ in 0..2 {
            let answer = fixture.ask(Method::GET).await?;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{delivery:?}");
        }
        let hex = fixture.blob.digest.hex();
        let cached = fixture.gateway.cache_dir().join("sha256").join(&hex[..2]).join(&hex);
        assert!(!cached.exists(), "{delivery:?}");
        // When the object is complete again, the blob is served.
        fixture.site.zone("zone-a").write(&fixture.blob.digest, &fixture.blob.bytes()?)?;
        fixture.site.quay.set_size(&fixture.blob.digest, fixture.blob.size);
        let answer = fixture.ask(Method::GET).await?;
        assert_eq!(answer.status, StatusCode::OK, "{delivery:?}");
        assert!(answer.body == fixture.blob.bytes()?, "{delivery:?}: other bytes");
    }
    Ok(())
}
