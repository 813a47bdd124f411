//! The fixture: real stores, the stand-in Quay over them, the gateway's process, and images in every zone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, PASSWORD, Site, USER};
use real_servers::{Kind, Login, RealZone, Skopeo};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "admin/app";
/// The tag of the image whose only layer takes long to read.
pub(crate) const LONG: &str = "long";
/// The size of that layer: more than all buffers between a store and a client can hold.
const LONG_BYTES: u64 = 24 << 20;
/// The number of images that the clients pull.
const IMAGES: u64 = 6;
/// The sizes of their layers, in bytes. The largest ones bypass the cache. The others fill the cache, evict
/// each other, and are read again.
const LAYERS: [u64; 4] = [20_000, 200_000, 500_000, 1_200_000];
/// The size of the cache: hardly one image fits.
const CACHE: &str = "1MiB";
/// The timeout for the copies into every zone.
const COPY_BOUND: Duration = Duration::from_secs(60);

/// The latencies of home and of the other zones before each answer. Home is the nearest, so that everything
/// comes from there until it fails.
const LATENCIES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(40));
/// The speed of each body, in bytes per second.
const BANDWIDTH: u64 = 8 << 20;

/// How the gateway reaches home. The other zones are always behind proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Through a proxy, which fails.
    ThroughProxy,
    /// Directly. The process fails.
    Directly,
}

/// Everything that runs.
pub(crate) struct Fixture {
    // The fields are dropped in this order: each user of a server before the server.
    pub(crate) gateway: Gateway,
    pub(crate) site: Site<RealZone>,
    /// The images that the clients pull, by tag.
    pub(crate) images: Vec<(String, Image)>,
    pub(crate) long: Image,
    trusted: TempDir,
}

impl Fixture {
    /// Starts stores of these kinds as zone-a (home), zone-b and zone-c, with all images in each.
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
            zone.proxy().set(|faults| (faults.latency, faults.bandwidth) = (latency, Some(BANDWIDTH)));
        }
        let site = Site::over(vec![a, b, c], Options::default())?;
        let gateway = site.gateway(&json!({ "cache": { "size": CACHE } })).await?;
        let images = (0..IMAGES).map(|seed| Ok((format!("v{seed}"), Spec::layers(seed, &LAYERS).build()?)));
        let images = images.collect::<Result<Vec<_>>>()?;
        let long = Spec::layers(IMAGES, &[LONG_BYTES]).build()?;
        let trusted = TempDir::new()?;
        std::fs::copy(gateway.authority_file(), trusted.path().join("ca.crt"))?;
        let fixture = Self { gateway, site, images, long, trusted };
        fixture.push().await?;
        Ok(fixture)
    }

    /// Pushes all images through the gateway and waits for the copies.
    async fn push(&self) -> Result<()> {
        let client = self.client()?;
        for (tag, image) in
            self.images.iter().map(|(tag, image)| (tag.as_str(), image)).chain([(LONG, &self.long)])
        {
            client.push(REPOSITORY, tag, image).await.with_context(|| format!("pushing {tag}"))?;
        }
        let (http, end) = (harness::http_client()?, Instant::now() + COPY_BOUND);
        let images = self.images.iter().map(|(_, image)| image).chain([&self.long]);
        for blob in images.flat_map(Image::blobs) {
            for zone in &self.site.zones {
                while !zone.exists(&http, &zone.key(&blob.digest)).await? {
                    ensure!(Instant::now() < end, "{} did not arrive in {}", blob.digest, zone.name);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }

    /// A client with its own connections and tokens.
    pub(crate) fn client(&self) -> Result<Client> {
        self.gateway.client(LOGIN)
    }

    /// skopeo, and a function that returns the reference of an image for its tag.
    pub(crate) fn skopeo(&self) -> (Skopeo, impl Fn(&str) -> String + Send + use<>) {
        let trusted = PathBuf::from(self.trusted.path());
        let skopeo = Skopeo { trusted, login: Some(Login::new(USER, PASSWORD)) };
        let host = self.gateway.hostname();
        (skopeo, move |tag| format!("{host}/{REPOSITORY}:{tag}"))
    }

    /// The home zone, which fails. All reads use it while it works.
    pub(crate) fn home(&mut self) -> &mut RealZone {
        &mut self.site.zones[0]
    }
}
