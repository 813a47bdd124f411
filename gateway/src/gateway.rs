//! The state that all requests share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use backends::Digest;
use replication::FanOut;
use rustls::ClientConfig;
use tokio_util::task::TaskTracker;
use zone_router::{Blob, Router, Verified};

use crate::access_log::AccessLog;
use crate::admin::{LatestCensus, Live};
use crate::copies::Sampler;
use crate::copies::SweepProgress;
use crate::copies::{Quay, ReadRepairs};
use crate::drains::DrainStates;
use crate::index_manifests::QueuedManifests;
use crate::metrics::ContradictedSizes;
use crate::metrics::Metrics;
use crate::offline::Offline;
use crate::permissions::Permissions;
use crate::pins::Pins;
use crate::server::Protocols;
use crate::shared_uploads::SharedUploads;
use crate::traffic::Traffic;
use blob_cache::Cache;
use certificates::ServerTls;
use config::{RegistryKind, Settings};
use limits::memory::Memory;
use limits::pool::{Pool, PoolStatus};
use quay_db::QuayDatabase;
use registry::bearer::{KeySource, TokenVerifier};
use registry::service_account::Reader;
use registry::upload_affinity::Uploads;
use registry::upstream::{InstanceId, Order, StoreState, StoreUse, Upstream};
use registry::{Names, Registry, RegistryClient};

/// The parts of a running gateway, as one configuration describes them.
///
/// A gateway never changes its configuration. A reload makes another gateway, which shares with this one whatever must
/// outlive a change: the cache, the journal, pools, budgets, metrics. See `Current`.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: Settings,
    /// Whom the gateway trusts when it connects to the registry and to stores.
    pub(crate) client_tls: Arc<ClientConfig>,
    /// How connections of clients are served.
    pub(crate) protocols: Arc<Protocols>,
    /// What clients see of TLS. It follows its files.
    pub(crate) server_tls: Arc<ServerTls>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) names: Names,
    pub(crate) upstream: Arc<Upstream>,
    /// Reads the registry with the service account, if there is one.
    pub(crate) reader: Option<Arc<Reader>>,
    /// Quay's database, if copies are recorded there.
    pub(crate) database: Option<Arc<QuayDatabase>>,
    /// Which instance of the registry has which upload.
    pub(crate) uploads: Uploads,
    /// The same for all replicas, if there are several instances and the journal is shared.
    pub(crate) shared_uploads: Option<Arc<SharedUploads>>,
    /// The registry, and the stores to which it redirects.
    pub(crate) client: RegistryClient,
    pub(crate) permissions: Arc<Permissions>,
    /// What is served while the registry is away, if the configuration says so.
    pub(crate) offline: Option<Arc<Offline>>,
    /// Verifies the registry's tokens, if the configuration says so.
    pub(crate) tokens: Option<Arc<TokenVerifier>>,
    /// Where the keys of the tokens come from.
    pub(crate) token_keys: Option<Arc<KeySource>>,
    pub(crate) sizes: Arc<ContradictedSizes>,
    /// Limits how many blobs are read whole, without being kept, because a client asked for a part.
    pub(crate) bypass_parts: Arc<Pool>,
    pub(crate) cache: Arc<Cache>,
    /// Which blobs of the cache are pinned.
    pub(crate) pins: Arc<Pins>,
    pub(crate) router: Arc<Router>,
    pub(crate) drains: Arc<DrainStates>,
    pub(crate) repairs: Arc<ReadRepairs>,
    pub(crate) fanout: FanOut,
    /// Quay as copies use it.
    pub(crate) quay: Arc<Quay>,
    pub(crate) metrics: Arc<Metrics>,
    /// The access log, if it is apart from the log.
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// What clients got.
    pub(crate) traffic: Arc<Traffic>,
    /// The blobs of the cache that stood out lately.
    pub(crate) census: Arc<LatestCensus>,
    /// What happens now, for those who watch.
    pub(crate) live: Arc<Live>,
    /// The latest sample of the queue of copies.
    pub(crate) sampler: Arc<Sampler>,
    /// `limits.connections`.
    pub(crate) connections: Arc<Pool>,
    /// `limits.memory`.
    pub(crate) memory: Memory,
    /// The progress of the sweep.
    pub(crate) sweep: Arc<SweepProgress>,
    /// `limits.requests`.
    pub(crate) requests: Arc<Pool>,
    /// Pushes whose copies are not queued yet. The gateway waits for them before it exits.
    pub(crate) pushes: TaskTracker,
    /// Manifests whose blobs were queued recently.
    pub(crate) queued: Arc<QueuedManifests>,
    /// The zones to which every pushed blob is copied.
    pub(crate) targets: Vec<Arc<str>>,
}

/// The gateway that serves now. A reload of the configuration replaces it. Whoever has taken it for a request keeps it to
/// the end of the request, with its zones and its registry.
#[derive(Debug)]
pub(crate) struct Current(ArcSwap<Gateway>);

impl Current {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self(ArcSwap::from_pointee(gateway))
    }

    /// The gateway for a request that begins now.
    pub(crate) fn load(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Serves all requests that begin from now on with another gateway.
    pub(crate) fn replace(&self, gateway: Arc<Gateway>) {
        self.0.store(gateway);
    }
}

/// How many blobs may be read whole at once, without being kept, because a client asked for a part. A client
/// that takes few bytes may so cause a large read.
pub(crate) const BYPASS_PARTS_MAX: usize = 16;

/// The timeout for reading a namespace's own locations. A client waits for its push meanwhile.
const REGIONS_TIMEOUT: Duration = Duration::from_secs(2);

impl Gateway {
    /// The status of every pool that clients share.
    pub(crate) fn pools(&self) -> Vec<PoolStatus> {
        let ours = [&*self.connections, &*self.requests].into_iter().chain(self.cache.pools());
        let logins = self.offline.iter().map(|offline| &**offline.logins());
        ours.chain(self.upstream.pools()).chain(logins).map(Pool::status).collect()
    }

    /// A blob with its key, which is the same in every zone.
    pub(crate) fn blob(&self, digest: Digest) -> Blob {
        Blob { digest, key: self.registry.blob_key(&digest) }
    }

    /// The order of the registry's instances for a request that reads or writes a store. An instance is
    /// ranked by its preferred store. The instance `kept` comes first, because it has the upload that the
    /// request belongs to.
    pub(crate) fn order_by_store(&self, does: StoreUse, kept: Option<InstanceId>) -> Order {
        let view = self.router.snapshot();
        let store = |zone: &str| StoreState {
            serves: store_serves(self, zone),
            probe: view.zones.iter().find(|view| &*view.name == zone).and_then(|view| view.probe),
        };
        self.upstream.order_by_store(does, store, kept)
    }

    /// Whether a zone's store answers neither reads nor probes, so that whatever is sent there is lost. A
    /// zone that denies the gateway access, gave wrong bytes, fails some reads, or is drained is not dead: it
    /// may still take what Quay writes.
    pub(crate) fn zone_is_dead(&self, zone: &str) -> bool {
        let view = self.router.snapshot();
        view.zones.iter().any(|view| &*view.name == zone && view.is_dead())
    }

    /// The zones to which blobs of this repository are copied: the common targets, and the locations of the
    /// namespace if Quay's database lists them.
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

    /// Watches a body for a contradicted size. If the registry named another size and the body is proven, the
    /// registry's size was wrong, and this is recorded.
    pub(crate) fn watch_size(self: &Arc<Self>, body: Verified, registry: Option<u64>) -> Verified {
        match (body.size(), registry) {
            (Some(size), Some(said)) if size != said => {
                let (gateway, digest) = (Arc::clone(self), *body.digest());
                body.when_proven(move || {
                    gateway.sizes.note(&gateway.metrics, digest, "registry", said, size);
                })
            }
            _ => body,
        }
    }

    /// The home zone, if copies may go there.
    pub(crate) fn repairable_home(&self) -> Option<Arc<str>> {
        let home = &self.router.home()?.name;
        // A distribution registry reads only its own storage, which is the home zone.
        let may = self.settings.registry_kind == RegistryKind::Distribution || self.targets.contains(home);
        may.then(|| Arc::clone(home))
    }
}

/// Whether a zone's store serves, as far as the gateway knows.
pub(crate) fn store_serves(gateway: &Gateway, zone: &str) -> bool {
    gateway.router.takes_pushes(zone)
}
