//! What every request shares.

use std::sync::Arc;

use backends::Digest;
use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use zone_router::{Blob, FanOut, Router};

use crate::auth::Permissions;
use crate::cache::Cache;
use crate::config::{RegistryKind, Settings};
use crate::follow::Follow;
use crate::metrics::Metrics;
use crate::queue::Sampler;
use crate::registry::{Names, Registry};
use crate::repairs::Repairs;
use crate::sticky::Uploads;
use crate::upstream::{Does, InstanceId, Order, Store, Upstream};
use crate::zones::Word;

/// The parts of a running gateway.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) names: Names,
    pub(crate) upstream: Upstream,
    /// Which instance of the registry takes which push.
    pub(crate) uploads: Uploads,
    pub(crate) follow: Follow,
    pub(crate) permissions: Permissions,
    pub(crate) cache: Arc<Cache>,
    pub(crate) router: Arc<Router>,
    pub(crate) word: Arc<Word>,
    pub(crate) repairs: Repairs,
    pub(crate) fanout: FanOut,
    pub(crate) metrics: Metrics,
    /// What is known of the queue of copies.
    pub(crate) sampler: Sampler,
    /// `limits.requests`.
    pub(crate) requests: Arc<Semaphore>,
    /// What clients dial, as a header.
    pub(crate) hostname: HeaderValue,
    /// Pushes whose copies are still to be queued; the end waits for them.
    pub(crate) pushes: TaskTracker,
    /// Zones that every pushed blob is copied to.
    pub(crate) targets: Vec<Arc<str>>,
}

impl Gateway {
    /// A blob and its place in every zone.
    pub(crate) fn blob(&self, digest: Digest) -> Blob {
        Blob { digest, key: self.registry.blob_key(&digest) }
    }

    /// The registry's instances for a request that reads or writes the store which an instance prefers;
    /// `kept`, which has the push that it is a part of, comes first.
    pub(crate) fn by_store(&self, does: Does, kept: Option<InstanceId>) -> Order {
        let view = self.router.snapshot();
        let store = |zone: &str| Store {
            serves: store_serves(self, zone),
            probe: view.zones.iter().find(|view| &*view.name == zone).and_then(|view| view.probe),
        };
        self.upstream.order_by_store(does, store, kept)
    }

    /// The home zone, if copies may go there.
    pub(crate) fn repairable_home(&self) -> Option<Arc<str>> {
        let home = &self.router.zones().first()?.name;
        // A distribution registry reads its own storage only, and that is home.
        let may = self.settings.registry_kind == RegistryKind::Distribution || self.targets.contains(home);
        may.then(|| Arc::clone(home))
    }
}

/// Whether a zone's store serves, for all that is known here.
pub(crate) fn store_serves(gateway: &Gateway, zone: &str) -> bool {
    gateway.router.takes_pushes(zone)
}
