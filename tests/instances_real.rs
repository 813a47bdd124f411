//! skopeo pushes through the gateway to two instances of Quay with one database.

use anyhow::{Context as _, Result};
use harness::site::{PASSWORD, Site, USER};
use http::Method;
use real_servers::{ImageDir, Login, Packing, Part, Skopeo, Types};
use serde_json::json;
use tempfile::TempDir;

const UPLOADS: &str = "/blobs/uploads/";

fn image(folder: &TempDir, name: &str, seed: u64) -> Result<ImageDir> {
    let part = |seed, size| Part { seed, size, packing: Packing::Gzip };
    ImageDir::image(&folder.path().join(name), Types::Oci, &[part(seed, 3_000_000), part(seed + 1, 1000)])
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_while_an_instance_and_then_a_store_is_dead() -> Result<()> {
    let site = Site::start()?;
    let b = site.instance("zone-b")?;
    let instances = json!([
        {"url": site.quay.url(), "zone": "zone-a"},
        {"url": b.url(), "zone": "zone-b"},
    ]);
    let gateway = site.gateway(&json!({"registry": {"url": null, "instances": instances}})).await?;
    let folder = TempDir::new()?;
    let trusted = folder.path().join("trusted");
    std::fs::create_dir(&trusted)?;
    std::fs::copy(gateway.authority_file(), trusted.join("ca.crt"))?;
    let skopeo = Skopeo { trusted, login: Some(Login::new(USER, PASSWORD)) };
    let reference = |name: &str| format!("{}/{USER}/{name}:1", gateway.hostname());
    let counts = || (site.quay.record().count(&Method::PUT, ""), b.record().count(&Method::PUT, ""));

    let one = image(&folder, "one", 1)?;
    skopeo.push(&one.path, &reference("one")).await.context("both instances work")?;
    // Two layers, the config and the manifest.
    assert_eq!(counts(), (4, 0));

    site.quay.down().await;
    let two = image(&folder, "two", 10)?;
    skopeo.push(&two.path, &reference("two")).await.context("Quay a is dead")?;
    assert_eq!(counts(), (4, 4));
    site.quay.up().await;

    site.zone("zone-a").proxy().down().await;
    let three = image(&folder, "three", 20)?;
    // One push detects that home's store is dead, unless home is still out of use for uploads.
    let _ = skopeo.push(&three.path, &reference("three")).await;
    skopeo.push(&three.path, &reference("three")).await.context("Quay a's store is dead")?;
    assert_eq!(counts().0, 4, "nothing else was completed there");

    site.zone("zone-a").proxy().heal().await;
    for (name, image) in [("one", &one), ("two", &two), ("three", &three)] {
        let to = TempDir::new()?;
        skopeo.pull(&reference(name), to.path()).await.context(name)?;
        image.same_as(to.path()).context(name)?;
    }
    for quay in [&site.quay, &b] {
        assert_eq!(quay.record().count(&Method::PATCH, "quay-gateway-instance"), 0);
        assert!(quay.record().count(&Method::PATCH, UPLOADS) > 0);
    }
    Ok(())
}
