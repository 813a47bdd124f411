//! Two zones of one store have different bytes for a blob. Whatever command is used and whatever size is
//! given, the correct copy stays, and it replaces the wrong one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::gateway::Gateway;
use harness::image::{Image, Manifest, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use harness::zone::Zone;
use serde_json::{Value, json};

use super::support::{NOW, command};

/// The timeout for copies on this machine.
const SOON: Duration = Duration::from_secs(60);

/// The size of the layer, which is large enough for a server-side copy, and the size after the truncation.
const BYTES: u64 = 3 << 20;
const CUT: u64 = 2 << 20;

/// zone-a has a truncated layer, zone-b the correct one. The registry knows the layer.
struct Fixture {
    site: Site,
    gateway: Gateway,
    image: Image,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let first = Zone::start("zone-a", Duration::ZERO)?;
        let second = first.sibling("zone-b")?;
        let site = Site::over(vec![first, second], Options::default())?;
        let gateway = site.gateway(&json!({})).await?;
        let image = Spec::layers(1, &[BYTES]).build()?;
        gateway.client(LOGIN)?.push("admin/app", "v1", &image).await?;
        let fixture = Self { site, gateway, image };
        fixture
            .until("copied", async || {
                Ok(fixture.image.blobs().iter().all(|blob| fixture.site.zone("zone-b").has(&blob.digest)))
            })
            .await?;
        fixture.idle().await?;
        fixture.cut()?;
        Ok(fixture)
    }

    fn digest(&self) -> &Digest {
        &self.image.layers[0].digest
    }

    /// Truncates the layer in zone-a.
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

    /// Waits until the queue is empty.
    async fn idle(&self) -> Result<()> {
        let waits = |queue: &Value| {
            queue["zones"].as_array().is_none_or(|zones| zones.iter().any(|zone| zone["waiting"] != 0))
        };
        self.until("idle", async || Ok(!waits(&self.queue().await?))).await
    }

    /// Checks that the command is done: the correct copy still exists, and zone-a has it too if `mended` is
    /// set.
    async fn holds(&self, mended: bool, what: &str) -> Result<()> {
        self.idle().await?;
        ensure!(self.is_right("zone-b"), "{what}: the correct copy was deleted");
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
            harness::http_client()?.post(url).header("quay-gateway-command", "1").body(add).send().await?;
        sent.error_for_status()?;
        Ok(())
    }
}

#[tokio::test]
async fn heal_keeps_the_correct_copy() -> Result<()> {
    let fixture = Fixture::start().await?;
    for round in 0..3 {
        let healed = command(&fixture.gateway, &[&["heal", "--output", "json"], &NOW]).await?;
        assert_eq!(healed.json()?["queued"], 2, "both copies are doubtful: {healed:?}");
        fixture.holds(true, &format!("round {round}")).await?;
        fixture.cut()?;
    }
    Ok(())
}

#[tokio::test]
async fn the_bytes_decide_whatever_size_is_given() -> Result<()> {
    let fixture = Fixture::start().await?;
    for size in [Some(12_345), Some(CUT), Some(BYTES), None] {
        for zone in ["zone-b", "zone-a"] {
            fixture.add(zone, size).await?;
            fixture.holds(zone == "zone-a", &format!("{zone}, {size:?}")).await?;
        }
        fixture.cut()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_with_a_wrong_size_does_not_prevent_a_repair() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.gateway.client(LOGIN)?;
    for size in [json!(4711), json!(CUT), Value::Null] {
        let mut manifest: Value = serde_json::from_slice(&fixture.image.manifest.bytes)?;
        manifest["layers"][0]["size"] = size.clone();
        let media_type = fixture.image.manifest.media_type.clone();
        let bytes: bytes::Bytes = manifest.to_string().into();
        let manifest = Manifest { digest: Digest::of(&bytes), bytes, media_type };
        client.push_manifest("admin/app", "lies", &manifest).await?;
        fixture.holds(true, &format!("{size}")).await?;
        fixture.cut()?;
    }
    Ok(())
}

/// If all copies are wrong, they are not copied. They stay where they are, and are reported.
#[tokio::test]
async fn a_blob_that_is_wrong_everywhere_stays_and_is_reported() -> Result<()> {
    let fixture = Fixture::start().await?;
    let digest = *fixture.digest();
    fixture.site.zone("zone-b").delete(&digest)?;
    let planned = command(&fixture.gateway, &[&["backfill", "zone-b", "--go"], &NOW]).await?;
    ensure!(planned.stdout.contains("1 copies are queued"), "{planned:?}");
    fixture
        .until("told of", async || {
            let jobs = command(&fixture.gateway, &[&["queue", "ls", "--output", "json"]]).await?.json()?;
            let error = jobs[0]["error"].as_str().unwrap_or_default().to_owned();
            Ok(error.contains("zone-a") && error.contains("wrong bytes"))
        })
        .await?;
    ensure!(!fixture.site.zone("zone-b").has(&digest), "wrong bytes were copied");
    let left = fixture.site.zone("zone-a").read(&digest).context("the object was deleted")?;
    ensure!(left.len() as u64 == CUT, "{} bytes", left.len());
    Ok(())
}
