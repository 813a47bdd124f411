//! Two zones of one store hold different bytes of a blob: whatever is asked for, and of whatever size, the right
//! copy stays, and takes the place of the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use serde_json::{Value, json};
use tests::gateway::Gateway;
use tests::image::{Image, Manifest, Spec};
use tests::quay::Options;
use tests::site::{LOGIN, Site};
use tests::zone::Zone;

use super::support::{NOW, command};

/// For copies on this machine.
const SOON: Duration = Duration::from_secs(60);

/// Large enough to be copied by a store itself, and what is left of it.
const BYTES: u64 = 3 << 20;
const CUT: u64 = 2 << 20;

/// zone-a has a truncated layer, zone-b the right one; the registry knows it.
struct Stage {
    site: Site,
    gateway: Gateway,
    image: Image,
}

impl Stage {
    async fn start() -> Result<Self> {
        let first = Zone::start("zone-a", Duration::ZERO)?;
        let second = first.sibling("zone-b")?;
        let site = Site::over(vec![first, second], Options::default())?;
        let gateway = site.gateway(&json!({})).await?;
        let image = Spec::layers(1, &[BYTES]).build()?;
        gateway.client(LOGIN)?.push("admin/app", "v1", &image).await?;
        let stage = Self { site, gateway, image };
        stage
            .until("copied", async || {
                Ok(stage.image.blobs().iter().all(|blob| stage.site.zone("zone-b").has(&blob.digest)))
            })
            .await?;
        stage.idle().await?;
        stage.cut()?;
        Ok(stage)
    }

    fn digest(&self) -> &Digest {
        &self.image.layers[0].digest
    }

    /// zone-a loses the end of the layer.
    fn cut(&self) -> Result<()> {
        Ok(self.site.zone("zone-a").truncate(self.digest(), CUT)?)
    }

    fn is_right(&self, zone: &str) -> bool {
        self.site.zone(zone).read(self.digest()).is_ok_and(|bytes| Digest::of(&bytes) == *self.digest())
    }

    async fn until(&self, what: &str, is: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !is().await? {
            ensure!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn queue(&self) -> Result<Value> {
        command(&self.gateway, &[&["queue", "--output", "json"]]).await?.json()
    }

    /// Waits until no copy waits.
    async fn idle(&self) -> Result<()> {
        let waits = |queue: &Value| {
            queue["zones"].as_array().is_none_or(|zones| zones.iter().any(|zone| zone["waiting"] != 0))
        };
        self.until("idle", async || Ok(!waits(&self.queue().await?))).await
    }

    /// What was asked for is done: nothing was lost, and zone-a has the right one, if it was to get it.
    async fn holds(&self, mended: bool, what: &str) -> Result<()> {
        self.idle().await?;
        ensure!(self.is_right("zone-b"), "{what}: the right copy is gone");
        ensure!(
            self.is_right("zone-a") == mended,
            "{what}: zone-a is {}mended",
            if mended { "not " } else { "" }
        );
        Ok(())
    }

    async fn add(&self, zone: &str, size: Option<u64>) -> Result<()> {
        let job = json!({"digest": self.digest().to_string(), "zone": zone, "size": size});
        let add = json!({"backlog": 1000, "jobs": [job]}).to_string();
        let url = format!("http://{}/queue/add", self.gateway.admin_address());
        let sent =
            tests::http_client()?.post(url).header("quay-gateway-command", "1").body(add).send().await?;
        sent.error_for_status()?;
        Ok(())
    }
}

#[tokio::test]
async fn heal_keeps_the_right_one() -> Result<()> {
    let stage = Stage::start().await?;
    for round in 0..3 {
        let healed = command(&stage.gateway, &[&["heal", "--output", "json"], &NOW]).await?;
        assert_eq!(healed.json()?["queued"], 2, "both are in doubt: {healed:?}");
        stage.holds(true, &format!("round {round}")).await?;
        stage.cut()?;
    }
    Ok(())
}

#[tokio::test]
async fn whatever_size_is_said_the_bytes_decide() -> Result<()> {
    let stage = Stage::start().await?;
    for size in [Some(12_345), Some(CUT), Some(BYTES), None] {
        for zone in ["zone-b", "zone-a"] {
            stage.add(zone, size).await?;
            stage.holds(zone == "zone-a", &format!("{zone}, {size:?}")).await?;
        }
        stage.cut()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_lies_about_a_size_suppresses_no_repair() -> Result<()> {
    let stage = Stage::start().await?;
    let client = stage.gateway.client(LOGIN)?;
    for size in [json!(4711), json!(CUT), Value::Null] {
        let mut manifest: Value = serde_json::from_slice(&stage.image.manifest.bytes)?;
        manifest["layers"][0]["size"] = size.clone();
        let media_type = stage.image.manifest.media_type.clone();
        let bytes: bytes::Bytes = manifest.to_string().into();
        let manifest = Manifest { digest: Digest::of(&bytes), bytes, media_type };
        client.push_manifest("admin/app", "lies", &manifest).await?;
        stage.holds(true, &format!("{size}")).await?;
        stage.cut()?;
    }
    Ok(())
}

/// Wrong bytes are copied nowhere, stay where they are as long as there is nothing better, and are told of.
#[tokio::test]
async fn what_is_wrong_everywhere_stays_and_is_told_of() -> Result<()> {
    let stage = Stage::start().await?;
    let digest = *stage.digest();
    stage.site.zone("zone-b").delete(&digest)?;
    let planned = command(&stage.gateway, &[&["backfill", "zone-b", "--go"], &NOW]).await?;
    ensure!(planned.stdout.contains("1 copies are queued"), "{planned:?}");
    stage
        .until("told of", async || {
            let jobs = command(&stage.gateway, &[&["queue", "ls", "--output", "json"]]).await?.json()?;
            let error = jobs[0]["error"].as_str().unwrap_or_default().to_owned();
            Ok(error.contains("zone-a") && error.contains("wrong bytes"))
        })
        .await?;
    ensure!(!stage.site.zone("zone-b").has(&digest), "wrong bytes were copied");
    let left = stage.site.zone("zone-a").read(&digest).context("what was there is gone")?;
    ensure!(left.len() as u64 == CUT, "{} bytes", left.len());
    Ok(())
}
