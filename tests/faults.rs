//! Zones that refuse, hang, lie and cut, and a registry that is down: the client sees right bytes
//! or a clear error, never wrong ones.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::json;
use tests::client::Client;
use tests::fault::{BodyFault, Faults};
use tests::gateway::Gateway;
use tests::image::{Image, Spec};
use tests::quay::Options;
use tests::site::{LOGIN, Site, ZONES};

const REPOSITORY: &str = "admin/one";

struct Stage {
    site: Site,
    /// Runs until the stage is struck.
    _gateway: Gateway,
    client: Client,
    image: Image,
}

impl Stage {
    /// An image that lies in all three zones and not in the cache.
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

    /// Pulls the layer, right to the last byte, and says how.
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

    /// Has the layer's body stop in its middle; resolves when it has.
    fn stopped(&self, zone: &str) -> impl Future<Output = ()> + use<> {
        self.site.zone(zone).proxy().hold(&self.image.layers[0].digest.hex(), 700_000)
    }

    fn asked(&self, zone: &str) -> usize {
        self.site.zone(zone).proxy().record().reads(&self.image.layers[0].digest.hex()).len()
    }
}

#[tokio::test]
async fn a_zone_that_refuses() -> Result<()> {
    let stage = Stage::new().await?;
    stage.site.zone("zone-a").proxy().down().await;
    stage.assert_from("zone-b").await
}

#[tokio::test]
async fn a_zone_that_hangs() -> Result<()> {
    let stage = Stage::new().await?;
    stage.fault("zone-a", |faults| faults.hang = true);
    stage.assert_from("zone-b").await
}

#[tokio::test]
async fn zones_that_answer_errors() -> Result<()> {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FORBIDDEN]
    {
        let stage = Stage::new().await?;
        stage.fault("zone-a", |faults| faults.status = Some(status));
        stage.assert_from("zone-b").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_zone_that_lost_the_blob() -> Result<()> {
    let stage = Stage::new().await?;
    stage.site.zone("zone-a").delete(&stage.image.layers[0].digest)?;
    stage.assert_from("zone-b").await
}

#[tokio::test]
async fn a_body_that_is_cut_goes_on_elsewhere() -> Result<()> {
    let stage = Stage::new().await?;
    stage.fault("zone-a", |faults| faults.body = Some(BodyFault::CutAfter(700_000)));
    stage.assert_from("zone-a").await?;
    assert_eq!(stage.asked("zone-b"), 1);
    let layer = stage.image.layers[0].digest.hex();
    let range = stage.site.zone("zone-b").proxy().record().reads(&layer)[0].header("range").to_owned();
    assert!(range.starts_with("bytes=") && !range.starts_with("bytes=0-"), "{range}");
    assert_eq!(stage.pull().await?, "quay-gateway; hit");
    Ok(())
}

#[tokio::test]
async fn a_body_that_stalls_goes_on_elsewhere() -> Result<()> {
    let stage = Stage::new().await?;
    let stopped = stage.stopped("zone-a");
    let (status, ()) = tokio::join!(stage.pull(), stopped);
    assert!(status?.contains("zone=zone-a"));
    assert_eq!(stage.asked("zone-b"), 1);
    Ok(())
}

#[tokio::test]
async fn the_store_is_killed_in_mid_pull() -> Result<()> {
    let stage = Stage::new().await?;
    let stopped = stage.stopped("zone-a");
    let kill = async {
        stopped.await;
        stage.site.zone("zone-a").proxy().down().await;
    };
    let (status, ()) = tokio::join!(stage.pull(), kill);
    assert!(status?.contains("zone=zone-a"));
    assert_eq!(stage.asked("zone-b"), 1);
    Ok(())
}

#[tokio::test]
async fn one_flipped_bit_is_cut_and_the_next_try_is_right() -> Result<()> {
    for offset in [0, 1_000_000, 1_999_000] {
        let stage = Stage::new().await?;
        stage.fault("zone-a", |faults| faults.body = Some(BodyFault::FlipAt(offset)));
        assert!(stage.pull().await.is_err(), "wrong bytes were completed");
        stage.assert_from("zone-b").await?;
        assert_eq!(stage.pull().await?, "quay-gateway; hit");
    }
    Ok(())
}

#[tokio::test]
async fn too_few_or_too_many_bytes() -> Result<()> {
    for fault in [BodyFault::Short(1), BodyFault::Short(5000), BodyFault::Long(1), BodyFault::Long(5000)] {
        let stage = Stage::new().await?;
        stage.fault("zone-a", |faults| faults.body = Some(fault));
        // Its size is another than the registry's: the next zone is asked at once.
        stage.assert_from("zone-b").await?;
    }
    Ok(())
}

#[tokio::test]
async fn all_zones_dead_is_a_clear_error_in_time() -> Result<()> {
    let stage = Stage::new().await?;
    for zone in &stage.site.zones {
        zone.proxy().down().await;
    }
    let start = Instant::now();
    let path = format!("/v2/{REPOSITORY}/blobs/{}", stage.image.layers[0].digest);
    let answer = stage.client.fetch(Method::GET, &path, &[]).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(start.elapsed() < Duration::from_secs(20));
    let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let error = &body["errors"][0];
    assert_eq!((&error["code"], &error["detail"]["retry"]), (&json!("UNAVAILABLE"), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn the_registry_down_silent_or_broken() -> Result<()> {
    let stage = Stage::new().await?;
    stage.pull().await?;
    let other = stage.image.config.digest;
    let get = |path: String| {
        let client = &stage.client;
        async move { client.fetch(Method::GET, &path, &[]).await }
    };
    stage.site.quay.set(|oddities| oddities.silent = true);
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
    stage.site.quay.set(|oddities| oddities.silent = false);
    stage.site.quay.down().await;
    let answer = get(format!("/v2/{REPOSITORY}/tags/list")).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::BAD_GATEWAY, "1"));
    assert_eq!(get(format!("/v2/{REPOSITORY}/blobs/{other}")).await?.status, StatusCode::BAD_GATEWAY);
    stage.site.quay.up().await;
    stage.site.quay.set(|oddities| oddities.broken = true);
    assert_eq!(get(format!("/v2/{REPOSITORY}/tags/list")).await?.status, StatusCode::INTERNAL_SERVER_ERROR);
    stage.site.quay.set(|oddities| oddities.broken = false);
    assert_eq!(get(format!("/v2/{REPOSITORY}/tags/list")).await?.status, StatusCode::OK);
    Ok(())
}

/// A disk of 1 MiB: what does not fit is pulled all the same.
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
        // Lazily: the gateway may still be closing its files.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
