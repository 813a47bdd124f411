//! Real stores, the stand-in Quay over them, the gateway's process, and images in every zone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tests::client::Client;
use tests::gateway::Gateway;
use tests::image::{Image, Spec};
use tests::quay::Options;
use tests::real::{Kind, Login, RealZone, Skopeo};
use tests::site::{LOGIN, PASSWORD, Site, USER};
use tokio::time::Instant;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "admin/app";
/// The tag of the image whose one layer takes long to read.
pub(crate) const LONG: &str = "long";
/// Bytes of that layer: more than all buffers between a store and a client hold.
const LONG_BYTES: u64 = 24 << 20;
/// Images that the crowd pulls.
const IMAGES: u64 = 6;
/// Bytes of their layers. The largest are streamed past the cache, the others fill it, evict each
/// other, and are read again.
const LAYERS: [u64; 4] = [20_000, 200_000, 500_000, 1_200_000];
/// Of which hardly one image fits.
const CACHE: &str = "1MiB";
/// How long the copies may take to arrive in every zone.
const COPY_BOUND: Duration = Duration::from_secs(60);

/// Home is the nearest, so that everything comes from there until it is struck. Before each answer of
/// home, and of the others.
const LATENCIES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(40));
/// Bytes a second of each body.
const BANDWIDTH: u64 = 8 << 20;

/// How the gateway reaches home; the other zones are behind proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Through a proxy: the line is what fails.
    ByLine,
    /// As it is: the process is what fails.
    Directly,
}

/// Everything that runs.
pub(crate) struct Stage {
    // Dropped in this order: what uses a server before the server.
    pub(crate) gateway: Gateway,
    pub(crate) site: Site<RealZone>,
    /// What the crowd pulls, by tag.
    pub(crate) images: Vec<(String, Image)>,
    pub(crate) long: Image,
    trusted: TempDir,
}

impl Stage {
    /// Stores of these kinds as zone-a (home), zone-b and zone-c, all images in each.
    pub(crate) async fn start(kinds: [Kind; 3], reach: Reach) -> Result<Self> {
        let [a, b, c] = kinds;
        let (mut a, b, c) = tokio::try_join!(
            RealZone::start("zone-a", a),
            RealZone::start("zone-b", b),
            RealZone::start("zone-c", c)
        )?;
        if reach == Reach::Directly {
            a = a.reached_directly();
        }
        let (home, others) = LATENCIES;
        for (zone, latency) in [(&a, home), (&b, others), (&c, others)] {
            zone.line().set(|faults| (faults.latency, faults.bandwidth) = (latency, Some(BANDWIDTH)));
        }
        let site = Site::over(vec![a, b, c], Options::default())?;
        let gateway = site.gateway(&json!({ "cache": { "size": CACHE } })).await?;
        let images = (0..IMAGES).map(|seed| Ok((format!("v{seed}"), Spec::layers(seed, &LAYERS).build()?)));
        let images = images.collect::<Result<Vec<_>>>()?;
        let long = Spec::layers(IMAGES, &[LONG_BYTES]).build()?;
        let trusted = TempDir::new()?;
        std::fs::copy(gateway.authority_file(), trusted.path().join("ca.crt"))?;
        let stage = Self { gateway, site, images, long, trusted };
        stage.push().await?;
        Ok(stage)
    }

    /// Pushes all images through the gateway and waits for the copies.
    async fn push(&self) -> Result<()> {
        let client = self.client()?;
        for (tag, image) in
            self.images.iter().map(|(tag, image)| (tag.as_str(), image)).chain([(LONG, &self.long)])
        {
            client.push(REPOSITORY, tag, image).await.with_context(|| format!("pushing {tag}"))?;
        }
        let (http, end) = (tests::http_client()?, Instant::now() + COPY_BOUND);
        let images = self.images.iter().map(|(_, image)| image).chain([&self.long]);
        for blob in images.flat_map(Image::blobs) {
            for zone in &self.site.zones {
                while !zone.exists(&http, &zone.key(&blob.digest)).await? {
                    ensure!(Instant::now() < end, "{} did not come to {}", blob.digest, zone.name);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }

    /// A client with connections and tokens of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        self.gateway.client(LOGIN)
    }

    /// skopeo, and the reference of an image by its tag for it.
    pub(crate) fn skopeo(&self) -> (Skopeo, impl Fn(&str) -> String + Send + use<>) {
        let trusted = PathBuf::from(self.trusted.path());
        let skopeo = Skopeo { trusted, login: Some(Login::new(USER, PASSWORD)) };
        let host = self.gateway.hostname();
        (skopeo, move |tag| format!("{host}/{REPOSITORY}:{tag}"))
    }

    /// The zone that is struck: home, from which everything comes as long as it is well.
    pub(crate) fn home(&mut self) -> &mut RealZone {
        &mut self.site.zones[0]
    }
}
