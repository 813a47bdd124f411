//! Objects that were cut to no bytes, and a registry that says so: no bytes are no blob but the empty one.

use std::time::Duration;

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::json;
use tests::client::{Answer, Client};
use tests::gateway::Gateway;
use tests::image::{Blob, Spec};
use tests::quay::{Delivery, Options};
use tests::site::{LOGIN, Site};

const REPOSITORY: &str = "admin/one";

/// A blob whose object in `zone-a`, where the registry looks for it, has no bytes, as the registry says.
struct Stage {
    site: Site,
    gateway: Gateway,
    blob: Blob,
}

impl Stage {
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
    let stage = Stage::new(&["zone-a", "zone-b"], Delivery::Redirect).await?;
    stage.site.zone("zone-b").write(&stage.blob.digest, &stage.blob.bytes()?)?;
    let head = stage.ask(Method::HEAD).await?;
    assert_eq!(head.header("content-length"), stage.blob.size.to_string());
    for source in ["zone=zone-b", "hit"] {
        let answer = stage.ask(Method::GET).await?;
        assert_eq!((answer.status, answer.body.len() as u64), (StatusCode::OK, stage.blob.size));
        assert!(answer.body == stage.blob.bytes()?, "other bytes");
        assert!(answer.header("cache-status").contains(source), "{}", answer.header("cache-status"));
    }
    Ok(())
}

#[tokio::test]
async fn no_bytes_are_an_error_and_are_not_kept() -> Result<()> {
    for delivery in [Delivery::Stream, Delivery::Redirect] {
        let stage = Stage::new(&["zone-a"], delivery).await?;
        for _ in 0..2 {
            let answer = stage.ask(Method::GET).await?;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{delivery:?}");
        }
        let hex = stage.blob.digest.hex();
        let cached = stage.gateway.cache_dir().join("sha256").join(&hex[..2]).join(&hex);
        assert!(!cached.exists(), "{delivery:?}");
        // Once the object is whole again, the blob is.
        stage.site.zone("zone-a").write(&stage.blob.digest, &stage.blob.bytes()?)?;
        stage.site.quay.set_size(&stage.blob.digest, stage.blob.size);
        let answer = stage.ask(Method::GET).await?;
        assert_eq!(answer.status, StatusCode::OK, "{delivery:?}");
        assert!(answer.body == stage.blob.bytes()?, "{delivery:?}: other bytes");
    }
    Ok(())
}
