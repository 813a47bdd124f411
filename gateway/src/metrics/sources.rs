//! Where answers come from: the cache, a zone, the registry, or the gateway itself.

use std::sync::Arc;

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

/// All sources of a gateway.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Arc<str>>);

impl Sources {
    pub(super) fn new(zones: &[Zone]) -> Self {
        let zones = zones.iter().map(|zone| format!("zone={}", zone.name).into());
        Self(FIXED.into_iter().map(Arc::from).chain(zones).collect())
    }

    /// The source with this name. No name is unknown, because zones do not change while the gateway runs.
    pub(crate) fn named(&self, name: &str) -> Source {
        self.0.iter().position(|known| **known == *name).map_or(Source::GATEWAY, Source)
    }

    /// Its name: `hit`, `zone=NAME`, `registry`, `registry-redirect` or `gateway`.
    pub(crate) fn name(&self, source: Source) -> &str {
        self.0.get(source.0).map_or(FIXED[0], |name| name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Source> + use<> {
        (0..self.0.len()).map(Source)
    }

    /// The sources of the bytes of blobs.
    pub(super) fn of_blobs(&self) -> impl Iterator<Item = Source> + use<> {
        self.all().filter(|source| *source != Source::GATEWAY)
    }
}
