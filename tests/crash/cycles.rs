//! The cycles of push, kill and restart, and the check of the zones afterwards.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use backends::Digest;
use fastrand::Rng;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use real_servers::Postgres;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::tally::Batch;

const REPOSITORY: &str = "admin/one";
/// The zones have some latency, so that copies take time.
const ZONES: [(&str, Duration); 3] = [
    ("zone-a", Duration::ZERO),
    ("zone-b", Duration::from_millis(15)),
    ("zone-c", Duration::from_millis(40)),
];
/// The replicas that share a PostgreSQL.
const REPLICAS: usize = 3;
/// The timeout for copies after the last kill. It covers a lease of 20 s, pauses after failures, and a busy
/// machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// The longest time between a push and a kill.
const AFTER_MS: u64 = 400;
const POLL: Duration = Duration::from_millis(25);

/// Where the journal is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            "postgresql" => Ok(Self::Postgres),
            _ => bail!("CRASH_ENGINE is sqlite or postgresql"),
        }
    }
}

/// A site, and gateways that share a journal.
pub(crate) struct World {
    engine: Engine,
    site: Site,
    gateways: Vec<Gateway>,
    /// The recent duration of a push. Kills happen within a similar time.
    push: Duration,
    /// Dropped last.
    _postgres: Option<Postgres>,
}

impl World {
    pub(crate) async fn start(engine: Engine) -> Result<Self> {
        let site = Site::with(&ZONES, Options::default())?;
        let (postgres, replicas) = match engine {
            Engine::Sqlite => (None, 1),
            Engine::Postgres => (Some(Postgres::start(None).await?), REPLICAS),
        };
        let journal = postgres.as_ref().map_or_else(|| "sqlite".to_owned(), Postgres::url);
        let mut gateways = Vec::new();
        for _ in 0..replicas {
            gateways.push(site.gateway(&json!({ "journal": journal })).await?);
        }
        Ok(Self { engine, site, gateways, push: Duration::from_millis(200), _postgres: postgres })
    }

    /// Runs cycles of a seed, starting with number `first`, and then the check.
    pub(crate) async fn batch(&mut self, seed: u64, first: u64, cycles: u64) -> Result<Batch> {
        let begun = Instant::now();
        let mut acknowledged = Vec::new();
        for cycle in first..first + cycles {
            let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(cycle));
            acknowledged.extend(self.cycle(&mut rng).await?);
        }
        self.settle(&acknowledged).await;
        let blobs = acknowledged.iter().map(|image| (image.blobs().len() * ZONES.len()) as u64).sum();
        Ok(Batch {
            engine: self.engine,
            seed,
            first,
            cycles,
            acknowledged: acknowledged.len() as u64,
            unacknowledged: cycles - acknowledged.len() as u64,
            blobs,
            missing: self.missing(&acknowledged),
            wrong: self.wrong()?,
            seconds: begun.elapsed().as_secs(),
        })
    }

    /// Pushes an image, kills a gateway during or soon after the push, and starts it again. Returns the image
    /// if its push was acknowledged.
    async fn cycle(&mut self, rng: &mut Rng) -> Result<Option<Image>> {
        let sizes: Vec<u64> = (0..rng.usize(1..4)).map(|_| rng.u64(1..300_000)).collect();
        let image = Spec::layers(rng.u64(..), &sizes).build()?;
        let victim = rng.usize(..self.gateways.len());
        // The push may go through another gateway than the killed one. Each may have to continue the other's
        // work.
        let entry = if rng.u8(..3) > 0 { victim } else { rng.usize(..self.gateways.len()) };
        let client = self.gateways[entry].client(LOGIN)?;
        let pushed = image.clone();
        let begun = Instant::now();
        let mut push = tokio::spawn(async move {
            let done = client.push(REPOSITORY, "v1", &pushed).await;
            (done, begun.elapsed())
        });
        let done = if rng.bool() {
            // A moment around the push: before it, during it, or just after its commit.
            sleep(self.push.mul_f64(rng.f64() * 1.3)).await;
            self.gateways[victim].kill();
            push.await?
        } else {
            let done = (&mut push).await?;
            sleep(Duration::from_millis(rng.u64(..AFTER_MS))).await;
            self.gateways[victim].kill();
            done
        };
        self.gateways[victim].spawn().await?;
        match done {
            (Ok(()), took) => {
                self.push = (self.push * 3 + took) / 4;
                Ok(Some(image))
            }
            (Err(error), _) if entry != victim => Err(error.context("a push to a gateway that lives")),
            (Err(_), _) => Ok(None),
        }
    }

    /// Waits until everything has been copied, or the timeout ends.
    async fn settle(&self, acknowledged: &[Image]) {
        let end = Instant::now() + PATIENCE;
        while self.missing(acknowledged) > 0 && Instant::now() < end {
            sleep(POLL).await;
        }
    }

    /// The number of missing copies.
    fn missing(&self, acknowledged: &[Image]) -> u64 {
        let blobs = acknowledged.iter().flat_map(Image::blobs);
        let missing = blobs.map(|blob| self.site.zones.iter().filter(|zone| !zone.has(&blob.digest)).count());
        missing.sum::<usize>() as u64
    }

    /// The number of objects whose bytes do not match their names, from acknowledged and other pushes.
    fn wrong(&self) -> Result<u64> {
        let mut wrong = 0;
        for zone in &self.site.zones {
            for key in zone.keys()? {
                let Some(hex) = key.rsplit('/').next().filter(|name| name.len() == 64) else { continue };
                let digest: Digest = format!("sha256:{hex}").parse()?;
                if Digest::of(&zone.read(&digest)?) != digest {
                    eprintln!("{} has other bytes under {key}", zone.name);
                    wrong += 1;
                }
            }
        }
        Ok(wrong)
    }
}
