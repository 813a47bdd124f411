//! Stores, registry, and images that lie in the first store alone.

use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tests::client::Client;
use tests::gateway::Gateway;
use tests::image::{Image, Layer, Manifest, Spec};
use tests::quay::Options;
use tests::site::{LOGIN, Site};
use tests::zone::Zone;

use crate::arguments::Arguments;

/// The repository of all images.
pub(crate) const REPOSITORY: &str = "admin/bench";

/// Stores; the first one takes the pushes.
pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Blobs of an image, its config among them.
const BLOBS: usize = 20;

/// Images pushed at once while the stage is set.
const PUSHES: usize = 4;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Of a hundred layers so many are of these sizes, bytes: as registries have them, most are small and
/// most bytes are in large ones.
const SIZES: [(u32, u64, u64); 4] =
    [(60, KIB, 64 * KIB), (30, 64 * KIB, MIB), (9, MIB, 8 * MIB), (1, 8 * MIB, 40 * MIB)];

/// A blob of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Everything but the ways to copy.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) site: Site,
    /// What is to be copied.
    pub(crate) items: Vec<Item>,
    manifests: Vec<Manifest>,
}

impl Stage {
    /// Starts it, and pushes all images to the first store.
    pub(crate) async fn start(arguments: &Arguments) -> Result<Self> {
        let site = Site::with(&ZONES.map(|name| (name, Duration::ZERO)), Options::default())?;
        let client = Client::new(&site.quay.url(), &[], LOGIN)?;
        let count = arguments.blobs.get().div_ceil(BLOBS);
        // One alone first: it makes the repository and fetches the token.
        let mut pushed = vec![push(&client, 0).await?];
        let others = (1..count as u64).map(|seed| push(&client, seed));
        pushed.extend(stream::iter(others).buffer_unordered(PUSHES).try_collect::<Vec<_>>().await?);
        let (items, manifests): (Vec<_>, Vec<_>) = pushed.into_iter().unzip();
        let stage = Self { site, items: items.concat(), manifests };
        for zone in &stage.site.zones {
            zone.proxy().set(|faults| faults.latency = arguments.latency());
        }
        Ok(stage)
    }

    /// A gateway that has just started.
    pub(crate) async fn gateway(&self) -> Result<Gateway> {
        self.site.gateway(&json!({})).await
    }

    /// Tells a gateway of all images, as pushes whose blobs are there already do.
    pub(crate) async fn tell(&self, gateway: &Gateway) -> Result<()> {
        let client = gateway.client(LOGIN)?;
        for (number, manifest) in self.manifests.iter().enumerate() {
            client.push_manifest(REPOSITORY, &tag(number as u64), manifest).await?;
        }
        Ok(())
    }

    /// The zones that copies go to.
    pub(crate) fn targets(&self) -> &[Zone] {
        &self.site.zones[1..]
    }

    /// Removes all copies.
    pub(crate) fn clear(&self) {
        for zone in self.targets() {
            for item in &self.items {
                // What was never copied need not be removed.
                let _ = zone.delete(&item.digest);
            }
        }
    }

    /// Bytes of all blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

/// Whether a zone has all of these.
pub(crate) fn has(zone: &Zone, items: &[Item]) -> bool {
    items.iter().all(|item| zone.has(&item.digest))
}

/// An image's blobs.
pub(crate) fn items(image: &Image) -> Vec<Item> {
    image.blobs().iter().map(|blob| Item { digest: blob.digest, size: blob.size }).collect()
}

/// An image of so many bytes in five layers, no two of it alike.
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

/// The layers' sizes of an image, evenly spread over the logarithm within their kind.
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
