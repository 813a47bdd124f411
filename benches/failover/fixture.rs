//! The fixture: stores, registry, gateway, and blobs that were not requested yet.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::Digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use harness::client::Client;
use harness::fault::Faults;
use harness::gateway::Gateway;
use harness::image::Blob;
use harness::proxy::Proxy;
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use serde_json::json;

use crate::arguments::Arguments;
use crate::puller::Puller;

/// The repository of all blobs.
pub(crate) const REPOSITORY: &str = "admin/bench";

/// The stores, home first.
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Concurrent pushes.
const PUSHES: usize = 8;

/// How long a gateway has known its zones before the measurement starts.
pub(crate) const WARM: Duration = Duration::from_secs(3);

/// One blob.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Its digest.
    pub(crate) digest: Digest,
}

/// Everything except the gateway.
#[derive(Debug)]
pub(crate) struct Fixture {
    site: Site,
    /// Small blobs, more than are requested from one gateway.
    pub(crate) small: Vec<Item>,
    pub(crate) large: Vec<Item>,
    well: Faults,
}

/// A new gateway, and a client of each side.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) gateway: Gateway,
    pub(crate) by_gateway: Arc<Puller>,
    pub(crate) by_quay: Arc<Puller>,
}

impl Fixture {
    /// Starts the parts, and writes every blob into every store.
    pub(crate) async fn start(arguments: &Arguments) -> Result<Self> {
        let site = Site::with(&ZONES.map(|name| (name, Duration::ZERO)), Options::default())?;
        let seconds = WARM + arguments.healthy() + arguments.fault();
        let small = seconds.as_secs() * u64::from(arguments.rate.get());
        let large = arguments.transfers.get() as u64 + 1;
        let client = Client::new(&site.quay.url(), &[], LOGIN)?;
        // The first push runs alone: it creates the repository and fetches the token.
        let mut made = Vec::new();
        for (from, count, size) in [(0, small, arguments.small()), (small, large, arguments.large())] {
            let first = store(&site, &client, from, size).await?;
            let others = (from + 1..from + count).map(|seed| store(&site, &client, seed, size));
            let mut items: Vec<Item> = stream::iter(others).buffer_unordered(PUSHES).try_collect().await?;
            items.push(first);
            made.push(items);
        }
        let (large, small) = (made.pop().unwrap_or_default(), made.pop().unwrap_or_default());
        let well = Faults {
            latency: arguments.latency(),
            bandwidth: Some(arguments.bandwidth()),
            ..Faults::default()
        };
        let fixture = Self { site, small, large, well };
        fixture.heal().await;
        Ok(fixture)
    }

    /// Starts a new gateway, and clients of both sides.
    pub(crate) async fn sides(&self) -> Result<Sides> {
        // No blob is requested twice, so remembered permissions do not matter.
        let gateway = self.site.gateway(&json!({})).await?;
        let by_gateway = Arc::new(Puller::new(gateway.client(LOGIN)?));
        let by_quay = Arc::new(Puller::new(Client::new(&self.site.quay.url(), &[], LOGIN)?));
        Ok(Sides { gateway, by_gateway, by_quay })
    }

    /// The proxy in front of home, which fails.
    pub(crate) fn home(&self) -> &Proxy {
        self.site.zone(ZONES[0]).proxy()
    }

    /// The proxies in front of all stores.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Proxy> {
        self.site.zones.iter().map(harness::zone::Zone::proxy)
    }

    /// Removes all faults.
    pub(crate) async fn heal(&self) {
        for line in self.lines() {
            line.heal().await;
            line.set(|faults| *faults = self.well.clone());
            line.record().clear();
        }
    }
}

/// Generates a blob, pushes it to the registry, and copies it to the stores to which the registry did not
/// write it.
async fn store(site: &Site, client: &Client, seed: u64, size: u64) -> Result<Item> {
    let mut bytes = vec![0; usize::try_from(size)?];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    let blob = Blob::in_memory("application/octet-stream", Bytes::from(bytes));
    client.push_blob(REPOSITORY, &blob).await.context("pushing a blob")?;
    for zone in &site.zones {
        if !zone.has(&blob.digest) {
            zone.write(&blob.digest, &blob.bytes()?)?;
        }
    }
    Ok(Item { digest: blob.digest })
}
