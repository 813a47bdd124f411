//! Zones that refuse, hang, send wrong bytes or break off, and a registry that is down. The client gets
//! correct bytes or a clear error, never wrong bytes.

use std::time::{Duration, Instant};

use anyhow::Result;
use harness::client::Client;
use harness::fault::{BodyFault, Faults};
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site, ZONES};
use http::{Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/one";

struct Fixture {
    site: Site,
    /// Runs until the fixture is dropped.
    _gateway: Gateway,
    client: Client,
    image: Image,
}

impl Fixture {
    /// An image that is in all three zones and not in the cache.
    async fn new() -> Result<Self> {
        let site = Site::with(&ZONES, Options::default())?;
        let timeouts = json!({"zone_connect": "1s", "zone_first_byte": "1s", "zone_stall": "1s", "registry_answer": "2s", "registry_permission": "2s", "registry_first_pull": "3s"});
        let gateway = site.gateway(&json!({ "timeouts": timeouts })).await?;
        let image = Spec::layers(1, &[2_000_000]).build()?;
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        for blob in image.blobs() {
            for zone in ["zone-b", "zone-c"] {
                site.zone(zone).write(&blob.digest, &blob.bytes()?)?;
            }
        }
        let client = gateway.client(LOGIN)?;
        Ok(Self { site, _gateway: gateway, client, image })
    }

    fn fault(&self, zone: &str, change: impl FnOnce(&mut Faults)) {
        self.site.zone(zone).proxy().set(change);
    }

    /// Pulls the layer, verifies it, and returns its `Cache-Status`.
    async fn pull(&self) -> Result<String> {
        let pulled = self.client.pull_blob(REPOSITORY, &self.image.layers[0].digest).await?;
        assert_eq!(pulled.size, self.image.layers[0].size);
        Ok(pulled.cache_status.unwrap_or_default())
    }

    async fn assert_from(&self, zone: &str) -> Result<()> {
        let status = self.pull().await?;
        assert!(status.contains(&format!("zone={zone}")), "{status}");
        Ok(())
    }

    /// Stops the body of the layer in its middle. The returned future resolves when it has stopped.
    fn stopped(&self, zone: &str) -> impl Future<Output = ()> + use<> {
        self.site.zone(zone).proxy().hold(&self.image.layers[0].digest.hex(), 700_000)
    }

    fn asked(&self, zone: &str) -> usize {
        self.site.zone(zone).proxy().record().reads(&self.image.layers[0].digest.hex()).len()
    }
}

#[tokio::test]
async fn a_zone_that_refuses() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.zone("zone-a").proxy().down().await;
    fixture.assert_from("zone-b").await
}

#[tokio::test]
async fn a_zone_that_hangs() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.fault("zone-a", |faults| faults.hang = true);
    fixture.assert_from("zone-b").await
}

#[tokio::test]
async fn zones_that_answer_errors() -> Result<()> {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FORBIDDEN]
    {
        let fixture = Fixture::new().await?;
        fixture.fault("zone-a", |faults| faults.status = Some(status));
        fixture.assert_from("zone-b").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_zone_that_lost_the_blob() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.zone("zone-a").delete(&fixture.image.layers[0].digest)?;
    fixture.assert_from("zone-b").await
}

#[tokio::test]
async fn a_body_that_breaks_off_continues_from_another_zone() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.fault("zone-a", |faults| faults.body = Some(BodyFault::CutAfter(700_000)));
    fixture.assert_from("zone-a").await?;
    assert_eq!(fixture.asked("zone-b"), 1);
    let layer = fixture.image.layers[0].digest.hex();
    let range = fixture.site.zone("zone-b").proxy().record().reads(&layer)[0].header("range").to_owned();
    assert!(range.starts_with("bytes=") && !range.starts_with("bytes=0-"), "{range}");
    assert_eq!(fixture.pull().await?, "quay-gateway; hit");
    Ok(())
}

#[tokio::test]
async fn a_body_that_stalls_continues_from_another_zone() -> Result<()> {
    let fixture = Fixture::new().await?;
    let stopped = fixture.stopped("zone-a");
    let (status, ()) = tokio::join!(fixture.pull(), stopped);
    assert!(status?.contains("zone=zone-a"));
    assert_eq!(fixture.asked("zone-b"), 1);
    Ok(())
}

#[tokio::test]
async fn the_store_is_killed_during_a_pull() -> Result<()> {
    let fixture = Fixture::new().await?;
    let stopped = fixture.stopped("zone-a");
    let kill = async {
        stopped.await;
        fixture.site.zone("zone-a").proxy().down().await;
    };
    let (status, ()) = tokio::join!(fixture.pull(), kill);
    assert!(status?.contains("zone=zone-a"));
    assert_eq!(fixture.asked("zone-b"), 1);
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_cuts_the_answer_and_the_next_try_is_correct() -> Result<()> {
    for offset in [0, 1_000_000, 1_999_000] {
        let fixture = Fixture::new().await?;
        fixture.fault("zone-a", |faults| faults.body = Some(BodyFault::FlipAt(offset)));
        assert!(fixture.pull().await.is_err(), "wrong bytes were completed");
        fixture.assert_from("zone-b").await?;
        assert_eq!(fixture.pull().await?, "quay-gateway; hit");
    }
    Ok(())
}

#[tokio::test]
async fn too_few_or_too_many_bytes() -> Result<()> {
    for fault in [BodyFault::Short(1), BodyFault::Short(5000), BodyFault::Long(1), BodyFault::Long(5000)] {
        let fixture = Fixture::new().await?;
        fixture.fault("zone-a", |faults| faults.body = Some(fault));
        // The object's size differs from the registry's size, so the next zone is asked at once.
        fixture.assert_from("zone-b").await?;
    }
    Ok(())
}

#[tokio::test]
async fn all_zones_dead_is_a_clear_error_in_time() -> Result<()> {
    let fixture = Fixture::new().await?;
    for zone in &fixture.site.zones {
        zone.proxy().down().await;
    }
    let start = Instant::now();
    let path = format!("/v2/{REPOSITORY}/blobs/{}", fixture.image.layers[0].digest);
    let answer = fixture.client.fetch(Method::GET, &path, &[]).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(start.elapsed() < Duration::from_secs(20));
    let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let error = &body["errors"][0];
    assert_eq!((&error["code"], &error["detail"]["retry"]), (&json!("UNAVAILABLE"), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn the_registry_down_silent_or_broken() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.pull().await?;
    let other = fixture.image.config.digest;
    let get = |path: String| {
        let client = &fixture.client;
        async move { client.fetch(Method::GET, &path, &[]).await }
    };
    fixture.site.quay.set(|faults| faults.silent = true);
    for path in
        [format!("/v2/{REPOSITORY}/blobs/{other}"), format!("/v2/{REPOSITORY}/tags/list"), "/v2/".into()]
    {
        let start = Instant::now();
        let answer = get(path.clone()).await?;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{path}");
        assert!(start.elapsed() < Duration::from_secs(15), "{path}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
        assert_eq!(body["errors"][0]["detail"]["fault"], "registry");
    }
    fixture.site.quay.set(|faults| faults.silent = false);
    fixture.site.quay.down().await;
    let answer = get(format!("/v2/{REPOSITORY}/tags/list")).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::BAD_GATEWAY, "1"));
    assert_eq!(get(format!("/v2/{REPOSITORY}/blobs/{other}")).await?.status, StatusCode::BAD_GATEWAY);
    fixture.site.quay.up().await;
    fixture.site.quay.set(|faults| faults.broken = true);
    assert_eq!(get(format!("/v2/{REPOSITORY}/tags/list")).await?.status, StatusCode::INTERNAL_SERVER_ERROR);
    fixture.site.quay.set(|faults| faults.broken = false);
    assert_eq!(get(format!("/v2/{REPOSITORY}/tags/list")).await?.status, StatusCode::OK);
    Ok(())
}

/// The disk has 1 MiB. A blob that does not fit is still pulled.
#[tokio::test]
async fn a_full_disk() -> Result<()> {
    let small = SmallDisk::mount(1 << 20)?;
    let site = Site::start()?;
    let gateway =
        site.gateway(&json!({"cache": {"dir": small.0.path(), "size": "1GiB", "reserve": "64KiB"}})).await?;
    let client = gateway.client(LOGIN)?;
    let image =
        Spec::layers(1, &[3_000_000, 200_000, 200_000, 200_000, 200_000, 200_000, 200_000]).build()?;
    client.push(REPOSITORY, "v1", &image).await?;
    for _ in 0..2 {
        let pulled = client.pull(REPOSITORY, "v1").await?;
        assert_eq!(pulled.len(), image.blobs().len());
        assert!(pulled[1].cache_status.as_deref().is_some_and(|status| status.contains("not stored")));
    }
    Ok(())
}

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .status()?;
        anyhow::ensure!(mounted.success(), "this test mounts a small tmpfs: run it as root");
        Ok(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the gateway may still have open files.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
