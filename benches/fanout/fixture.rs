//! The fixture: stores, registry, and images that only the first store has.

use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Layer, Manifest, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use harness::zone::Zone;
use serde_json::json;

use crate::arguments::Arguments;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "admin/bench";

/// The stores. Pushes go to the first one.
pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Blobs of an image, including its config.
const BLOBS: usize = 20;

/// Concurrent pushes while the fixture is built.
const PUSHES: usize = 4;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The distribution of layer sizes, in bytes: of each hundred layers, this many have a size in this range. As
/// in real registries, most layers are small, and most bytes are in large layers.
const SIZES: [(u32, u64, u64); 4] =
    [(60, KIB, 64 * KIB), (30, 64 * KIB, MIB), (9, MIB, 8 * MIB), (1, 8 * MIB, 40 * MIB)];

/// A blob of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Everything except the programs that copy.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) site: Site,
    /// What is to be copied.
    pub(crate) items: Vec<Item>,
    manifests: Vec<Manifest>,
}

impl Fixture {
    /// Starts the parts, and pushes all images to the first store.
    pub(crate) async fn start(arguments: &Arguments) -> Result<Self> {
        let site = Site::with(&ZONES.map(|name| (name, Duration::ZERO)), Options::default())?;
        let client = Client::new(&site.quay.url(), &[], LOGIN)?;
        let count = arguments.blobs.get().div_ceil(BLOBS);
        // The first push runs alone: it creates the repository and fetches the token.
        let mut pushed = vec![push(&client, 0).await?];
        let others = (1..count as u64).map(|seed| push(&client, seed));
        pushed.extend(stream::iter(others).buffer_unordered(PUSHES).try_collect::<Vec<_>>().await?);
        let (items, manifests): (Vec<_>, Vec<_>) = pushed.into_iter().unzip();
        let fixture = Self { site, items: items.concat(), manifests };
        for zone in &fixture.site.zones {
            zone.proxy().set(|faults| faults.latency = arguments.latency());
        }
        Ok(fixture)
    }

    /// Starts a new gateway.
    pub(crate) async fn gateway(&self) -> Result<Gateway> {
        self.site.gateway(&json!({})).await
    }

    /// Sends all manifests to a gateway, like pushes whose blobs exist already.
    pub(crate) async fn tell(&self, gateway: &Gateway) -> Result<()> {
        let client = gateway.client(LOGIN)?;
        for (number, manifest) in self.manifests.iter().enumerate() {
            client.push_manifest(REPOSITORY, &tag(number as u64), manifest).await?;
        }
        Ok(())
    }

    /// The zones to which blobs are copied.
    pub(crate) fn targets(&self) -> &[Zone] {
        &self.site.zones[1..]
    }

    /// Removes all copies.
    pub(crate) fn clear(&self) {
        for zone in self.targets() {
            for item in &self.items {
                // A blob that was never copied need not be removed.
                let _ = zone.delete(&item.digest);
            }
        }
    }

    /// The size of all blobs together, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

/// Whether a zone has all of these blobs.
pub(crate) fn has(zone: &Zone, items: &[Item]) -> bool {
    items.iter().all(|item| zone.has(&item.digest))
}

/// The blobs of an image.
pub(crate) fn items(image: &Image) -> Vec<Item> {
    image.blobs().iter().map(|blob| Item { digest: blob.digest, size: blob.size }).collect()
}

/// An image of this many bytes in five layers. No two images share a blob.
pub(crate) fn image(seed: u64, bytes: u64) -> Result<Image> {
    raw(seed, &[bytes / 5; 5])
}

async fn push(client: &Client, seed: u64) -> Result<(Vec<Item>, Manifest)> {
    let image = raw(seed, &sizes(seed))?;
    client.push(REPOSITORY, &tag(seed), &image).await.context("pushing an image")?;
    Ok((items(&image), image.manifest))
}

fn tag(number: u64) -> String {
    format!("v{number}")
}

/// The sizes of an image's layers, spread evenly on a logarithmic scale within their range.
fn sizes(seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let size = |_| {
        let mut of_100 = random.u32(..100);
        let kind = SIZES.iter().find(|(share, ..)| {
            let found = of_100 < *share;
            of_100 = of_100.saturating_sub(*share);
            found
        });
        let (_, from, to) = *kind.unwrap_or(&SIZES[0]);
        (from as f64 * (to as f64 / from as f64).powf(random.f64())) as u64
    };
    (1..BLOBS).map(size).collect()
}

fn raw(seed: u64, sizes: &[u64]) -> Result<Image> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(1 << 32));
    let mut layer = |size: &u64| {
        let mut bytes = vec![0; usize::try_from(*size)?];
        random.fill(&mut bytes);
        anyhow::Ok(Layer::Raw(bytes))
    };
    let layers = sizes.iter().map(&mut layer).collect::<Result<_>>()?;
    Spec { layers, ..Spec::layers(seed, &[]) }.build()
}
