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
use crate::registry::{Names, Registry};
use crate::repairs::Repairs;
use crate::upstream::Upstream;
use crate::zones::Word;

/// The parts of a running gateway.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) names: Names,
    pub(crate) upstream: Upstream,
    pub(crate) follow: Follow,
    pub(crate) permissions: Permissions,
    pub(crate) cache: Arc<Cache>,
    pub(crate) router: Arc<Router>,
    pub(crate) word: Arc<Word>,
    pub(crate) repairs: Repairs,
    pub(crate) fanout: FanOut,
    pub(crate) metrics: Metrics,
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

    /// The home zone, if copies may go there.
    pub(crate) fn repairable_home(&self) -> Option<Arc<str>> {
        let home = &self.router.zones().first()?.name;
        // A distribution registry reads its own storage only, and that is home.
        let may = self.settings.registry_kind == RegistryKind::Distribution || self.targets.contains(home);
        may.then(|| Arc::clone(home))
    }
}
