//! Where answers come from: the cache, a zone, the registry, or the gateway itself.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Response;
use zone_router::Zone;

/// The names of the sources that every gateway has. The zones follow.
const FIXED: [&str; 4] = ["gateway", "registry", "hit", "registry-redirect"];

/// Where an answer comes from. It is in the extensions of the answer; without it, the answer is the gateway's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source(usize);

impl Source {
    /// The gateway itself: refusals, errors, and answers about a blob without its bytes.
    pub(crate) const GATEWAY: Self = Self(0);
    /// An answer of the registry.
    pub(crate) const REGISTRY: Self = Self(1);
    /// The cache.
    pub(crate) const HIT: Self = Self(2);

    /// Records that an answer comes from here.
    pub(crate) fn of<B>(self, mut response: Response<B>) -> Response<B> {
        response.extensions_mut().insert(self);
        response
    }

    /// The number of the source, below [`Sources::len`].
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// All sources that a gateway has had. A zone that is removed keeps its number, as counters of it stay.
#[derive(Debug)]
pub(crate) struct Sources(ArcSwap<Vec<Arc<str>>>);

impl Default for Sources {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(FIXED.map(Arc::from).to_vec()))
    }
}

impl Sources {
    /// Adds these zones, if they are not known yet.
    pub(super) fn add(&self, zones: &[Zone]) {
        let mut names = Vec::clone(&self.0.load());
        for zone in zones {
            let name: Arc<str> = format!("zone={}", zone.name).into();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        self.0.store(Arc::new(names));
    }

    /// The source with this name. No name is unknown, because zones are added before anything is read from them.
    pub(crate) fn named(&self, name: &str) -> Source {
        self.0.load().iter().position(|known| **known == *name).map_or(Source::GATEWAY, Source)
    }

    /// Its name: `hit`, `zone=NAME`, `registry`, `registry-redirect` or `gateway`.
    pub(crate) fn name(&self, source: Source) -> Arc<str> {
        let names = self.0.load();
        Arc::clone(names.get(source.0).unwrap_or(&names[0]))
    }

    pub(super) fn len(&self) -> usize {
        self.0.load().len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Source> + use<> {
        (0..self.len()).map(Source)
    }
}
