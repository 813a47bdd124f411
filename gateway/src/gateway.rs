//! What every request shares.

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use http::HeaderValue;
use replication::FanOut;
use tokio_util::task::TaskTracker;
use zone_router::{Blob, Router, Verified};

use crate::copies::ReadRepairs;
use crate::copies::Sampler;
use crate::copies::SweepProgress;
use crate::drains::Word;
use crate::index_manifests::Queued;
use crate::metrics::Metrics;
use crate::metrics::Sizes;
use crate::permissions::Permissions;
use blob_cache::Cache;
use config::{RegistryKind, Settings};
use limits::memory::Memory;
use limits::pool::{Pool, PoolStatus};
use quay_db::QuayDatabase;
use registry::service_account::Reader;
use registry::upload_affinity::Uploads;
use registry::upstream::{InstanceId, Order, StoreState, StoreUse, Upstream};
use registry::{Names, Registry, RegistryClient};

/// The parts of a running gateway.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) names: Names,
    pub(crate) upstream: Arc<Upstream>,
    /// The registry as the service account reads it, if there is one.
    pub(crate) reader: Option<Arc<Reader>>,
    /// Quay's database, where Quay is told of copies.
    pub(crate) database: Option<Arc<QuayDatabase>>,
    /// Which instance of the registry takes which push.
    pub(crate) uploads: Uploads,
    /// The registry, and the stores to which it redirects.
    pub(crate) client: RegistryClient,
    pub(crate) permissions: Permissions,
    pub(crate) sizes: Sizes,
    /// Blobs that are not kept and are read whole because of a part, at once.
    pub(crate) bypass_parts: Arc<Pool>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) router: Arc<Router>,
    pub(crate) word: Arc<Word>,
    pub(crate) repairs: ReadRepairs,
    pub(crate) fanout: FanOut,
    pub(crate) metrics: Metrics,
    /// What is known of the queue of copies.
    pub(crate) sampler: Arc<Sampler>,
    /// `limits.connections`.
    pub(crate) connections: Arc<Pool>,
    /// `limits.memory`.
    pub(crate) memory: Memory,
    /// How far the sweep is.
    pub(crate) sweep: Arc<SweepProgress>,
    /// `limits.requests`.
    pub(crate) requests: Arc<Pool>,
    /// What clients dial, as a header.
    pub(crate) hostname: HeaderValue,
    /// Pushes whose copies are still to be queued; the end waits for them.
    pub(crate) pushes: TaskTracker,
    /// Manifests whose blobs were queued of late.
    pub(crate) queued: Queued,
    /// Zones that every pushed blob is copied to.
    pub(crate) targets: Vec<Arc<str>>,
}

/// Blobs that are not kept and are read whole because of a part, at once: a client may take little and cause
/// much.
pub(crate) const BYPASS_PARTS_MAX: usize = 16;

/// For a namespace's own locations, while a client waits for its push.
const REGIONS_TIMEOUT: Duration = Duration::from_secs(2);

impl Gateway {
    /// What clients share.
    pub(crate) fn pools(&self) -> Vec<PoolStatus> {
        let ours = [&*self.connections, &*self.requests].into_iter().chain(self.cache.pools());
        ours.chain(self.upstream.pools()).map(Pool::status).collect()
    }

    /// A blob and its place in every zone.
    pub(crate) fn blob(&self, digest: Digest) -> Blob {
        Blob { digest, key: self.registry.blob_key(&digest) }
    }

    /// The registry's instances for a request that reads or writes the store which an instance prefers;
    /// `kept`, which has the push that it is a part of, comes first.
    pub(crate) fn by_store(&self, does: StoreUse, kept: Option<InstanceId>) -> Order {
        let view = self.router.snapshot();
        let store = |zone: &str| StoreState {
            serves: store_serves(self, zone),
            probe: view.zones.iter().find(|view| &*view.name == zone).and_then(|view| view.probe),
        };
        self.upstream.order_by_store(does, store, kept)
    }

    /// Whether a zone's store gives no answers, neither to reads nor to probes, so that what is sent there is
    /// lost. One that denies the gateway, gave it wrong bytes, fails some reads or is drained may still take what
    /// Quay writes.
    pub(crate) fn zone_is_dead(&self, zone: &str) -> bool {
        let view = self.router.snapshot();
        view.zones.iter().any(|view| &*view.name == zone && view.is_dead())
    }

    /// Zones that blobs of this repository are copied to: every blob's, and those of its namespace,
    /// where Quay's database tells them.
    pub(crate) async fn targets_of(&self, repository: &str) -> Vec<Arc<str>> {
        let mut targets = self.targets.clone();
        let Some(database) = &self.database else { return targets };
        let regions = match tokio::time::timeout(REGIONS_TIMEOUT, database.regions(repository)).await {
            Ok(Ok(regions)) => regions,
            Ok(Err(error)) => {
                tracing::warn!(repository, %error, "a namespace's own locations are not known: only the common ones get copies before the next sweep");
                return targets;
            }
            Err(_) => {
                tracing::warn!(
                    repository,
                    "Quay's database is slow: a namespace's own locations get no copies before the next sweep"
                );
                return targets;
            }
        };
        let own = self.router.zones().map(|zone| &zone.name);
        for zone in own.filter(|zone| regions.iter().any(|region| *region == ***zone)) {
            if !targets.contains(zone) {
                targets.push(Arc::clone(zone));
            }
        }
        targets
    }

    /// A body as it is. If the registry named another size and the body ends without an error, the registry
    /// was wrong, and that is noted.
    pub(crate) fn noting_sizes(self: &Arc<Self>, body: Verified, registry: Option<u64>) -> Verified {
        match (body.size(), registry) {
            (Some(size), Some(said)) if size != said => {
                let (gateway, digest) = (Arc::clone(self), *body.digest());
                body.when_proven(move || {
                    gateway.sizes.contradicted(&gateway.metrics, digest, "registry", said, size);
                })
            }
            _ => body,
        }
    }

    /// The home zone, if copies may go there.
    pub(crate) fn repairable_home(&self) -> Option<Arc<str>> {
        let home = &self.router.home()?.name;
        // A distribution registry reads its own storage only, and that is home.
        let may = self.settings.registry_kind == RegistryKind::Distribution || self.targets.contains(home);
        may.then(|| Arc::clone(home))
    }
}

/// Whether a zone's store serves, for all that is known here.
pub(crate) fn store_serves(gateway: &Gateway, zone: &str) -> bool {
    gateway.router.takes_pushes(zone)
}
