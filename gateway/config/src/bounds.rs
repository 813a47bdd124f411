//! `limits` and `timeouts`: every bound that an operator may set, with its default.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::changes::shown_fields;
use super::env::keys;
use super::memory::default_budget;

/// Limits on numbers and sizes. Keys of `limits` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections. Beyond this, the connection that has been idle longest is closed for a new one.
    pub connections: usize,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Concurrent requests on all connections. Further requests are answered 503.
    pub requests: usize,
    /// The least speed of a request's body, in bytes a second. A client may be `timeouts.client_stall` behind it.
    pub request_rate: ByteSize,
    /// Connections to the registry. A request that waits longer than `timeouts.queue_wait` for one is answered 503.
    pub registry_connections: usize,
    /// Further connections to the registry, for permission checks only.
    pub registry_permissions: usize,
    /// Bytes of a request's head; for HTTP/2, of its header list.
    pub header_bytes: ByteSize,
    /// Header fields of a request. All cookies of an HTTP/2 request count as one.
    pub headers: usize,
    /// Concurrent fills of the cache. Further blobs are streamed and not kept.
    pub fills: usize,
    /// Fills, of those, that continue after every client has left.
    pub abandoned_fills: usize,
    /// Bytes of a manifest. A larger one is forwarded, but its blobs are not queued for copies.
    pub manifest: ByteSize,
    /// Local blobs of a manifest. One that references more is forwarded, but its blobs are left to the sweep.
    /// Images have a few hundred layers at most.
    pub manifest_blobs: usize,
    /// Cached permissions (credential, repository, digest), and as many links (repository, digest).
    pub permissions: u64,
    /// Redirects of the registry that are followed for one blob.
    pub redirects: usize,
    /// Cached files that are kept open.
    pub open_files: u64,
    /// Bytes of memory for all client requests together. If it is not set: half of the cgroup's limit, or
    /// 512 MiB if there is no such limit.
    pub memory: Option<ByteSize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 128,
            requests: 8192,
            request_rate: ByteSize::kib(1),
            registry_connections: 1024,
            registry_permissions: 256,
            header_bytes: ByteSize::kib(64),
            headers: 100,
            fills: 256,
            abandoned_fills: 32,
            manifest: ByteSize::mib(4),
            manifest_blobs: 2000,
            permissions: 100_000,
            redirects: 3,
            open_files: 512,
            memory: None,
        }
    }
}

/// The smallest `limits.header_bytes`.
const HEADER_BYTES_MIN: ByteSize = ByteSize::kib(1);

/// The smallest `limits.memory`. With less, even a few clients would be refused.
const MEMORY_MIN: ByteSize = ByteSize::mib(32);

/// The largest value of any count. More is a typing error.
const COUNT_MAX: usize = 1_000_000;

/// Why a limit cannot be used. The message begins with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LimitError {
    #[error("limits.{key}: {count} is not between 1 and {COUNT_MAX}")]
    Count { key: &'static str, count: usize },
    #[error("limits.request_rate: must be more than 0, such as 1KiB")]
    RequestRate,
    #[error("limits.header_bytes: must be at least {HEADER_BYTES_MIN}: an access token needs that much")]
    HeaderBytes,
    #[error("limits.abandoned_fills: must be at most {COUNT_MAX}")]
    AbandonedFills,
    #[error("limits.memory: {0} is less than {MEMORY_MIN}")]
    Memory(ByteSize),
}

impl Limits {
    /// The memory budget in bytes.
    #[must_use]
    pub fn memory_budget(&self) -> u64 {
        self.memory.map_or_else(|| default_budget(Path::new("/")), |memory| memory.as_u64())
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// A limit is out of its range.
    pub(super) fn check(&self) -> Result<(), LimitError> {
        let counts = [
            ("connections", self.connections),
            ("streams", self.streams as usize),
            ("requests", self.requests),
            ("registry_connections", self.registry_connections),
            ("registry_permissions", self.registry_permissions),
            ("headers", self.headers),
            ("fills", self.fills),
            ("manifest_blobs", self.manifest_blobs),
        ];
        for (key, count) in counts {
            if !(1..=COUNT_MAX).contains(&count) {
                return Err(LimitError::Count { key, count });
            }
        }
        if self.request_rate.as_u64() == 0 {
            return Err(LimitError::RequestRate);
        }
        if self.header_bytes < HEADER_BYTES_MIN {
            return Err(LimitError::HeaderBytes);
        }
        if self.abandoned_fills > COUNT_MAX {
            return Err(LimitError::AbandonedFills);
        }
        let memory = self.memory.filter(|memory| *memory < MEMORY_MIN);
        memory.map_or(Ok(()), |memory| Err(LimitError::Memory(memory)))
    }
}

/// Limits on durations. Keys of `timeouts` in the configuration, such as `handshake: 10s`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// A client's TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// From the first byte of a request's headers to their end. Also the wait for the first byte of the first request.
    #[serde(with = "humantime_serde")]
    pub headers: Duration,
    /// How long a connection may be idle between two requests.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How long a client may neither send nor take a byte during a request.
    #[serde(with = "humantime_serde")]
    pub client_stall: Duration,
    /// A whole request body, from the end of its headers to its last byte.
    #[serde(with = "humantime_serde")]
    pub request_body: Duration,
    /// How long a request waits for a slot that clients share, such as one of `limits.registry_connections`.
    #[serde(with = "humantime_serde")]
    pub queue_wait: Duration,
    /// How long new connections are still accepted after SIGTERM, because load balancers learn of the
    /// shutdown some seconds later. If it is not set: 5 s under Kubernetes, otherwise 0.
    #[serde(with = "humantime_serde")]
    pub lame_duck: Option<Duration>,
    /// How long requests in flight may take after that.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// TCP and TLS to the registry.
    #[serde(with = "humantime_serde")]
    pub registry_connect: Duration,
    /// The registry's first byte, for every request that has no timeout of its own.
    #[serde(with = "humantime_serde")]
    pub registry_answer: Duration,
    /// The registry's permission for a blob that the cache or a zone could serve.
    #[serde(with = "humantime_serde")]
    pub registry_permission: Duration,
    /// The registry's permission for a blob that neither has. On the first pull of a proxy-cache
    /// organisation, Quay downloads the blob before it answers (its upstream timeout is 120 s).
    #[serde(with = "humantime_serde")]
    pub registry_first_pull: Duration,
    /// The registry's answer after the last byte of an upload. Quay assembles large blobs before it answers
    /// (its own nginx waits 2000 s).
    #[serde(with = "humantime_serde")]
    pub registry_upload: Duration,
    /// Between two chunks of a body from the registry.
    #[serde(with = "humantime_serde")]
    pub registry_stall: Duration,
    /// An instance's answer to a probe, including the connection. After two probes in a row without an
    /// answer, the instance is not used. If a request waits a third of this, its instance is probed.
    #[serde(with = "humantime_serde")]
    pub registry_probe: Duration,
    /// From one probe of a healthy instance to the next.
    #[serde(with = "humantime_serde")]
    pub registry_probe_every: Duration,
    /// How long a chunk of an upload may move no byte and get no answer while its instance does not answer
    /// or its zone's store is not used. Then it is answered 503, so that the client begins again.
    #[serde(with = "humantime_serde")]
    pub registry_lost: Duration,
    /// An instance's answer to a POST that begins an upload. Then the next instance is asked.
    #[serde(with = "humantime_serde")]
    pub registry_upload_begin: Duration,
    /// TCP and TLS to a zone's store.
    #[serde(with = "humantime_serde")]
    pub zone_connect: Duration,
    /// A zone's first byte. Then the next zone is tried.
    #[serde(with = "humantime_serde")]
    pub zone_first_byte: Duration,
    /// Between two chunks of a body from a zone. Then the next zone continues the body.
    #[serde(with = "humantime_serde")]
    pub zone_stall: Duration,
    /// From the request to the first byte of a blob that a zone could serve. Container runtimes give up on a
    /// host after 30 s.
    #[serde(with = "humantime_serde")]
    pub blob_answer: Duration,
    /// One operation on the cache's disk. Then it counts as failed.
    #[serde(with = "humantime_serde")]
    pub disk: Duration,
    /// How long a client waits while a cached file is hashed again after a reboot. Then it gets the blob from
    /// a zone.
    #[serde(with = "humantime_serde")]
    pub cache_proof: Duration,
    /// How long a permission of the registry is cached for one credential. Quay itself caches it for 60 s
    /// (`data/cache/impl.py`); a larger value is refused.
    #[serde(with = "humantime_serde")]
    pub permission: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            handshake: s(10),
            headers: s(30),
            // Longer than clients keep an idle connection (Go's `http.DefaultTransport`: 90 s), so that they close it.
            idle: s(120),
            client_stall: s(60),
            request_body: s(48 * 3600),
            queue_wait: s(3),
            lame_duck: None,
            drain: s(30),
            registry_connect: s(3),
            registry_answer: s(75),
            registry_permission: s(15),
            registry_first_pull: s(150),
            registry_upload: s(2000),
            registry_stall: s(60),
            registry_probe: Duration::from_millis(1500),
            registry_probe_every: s(5),
            registry_lost: s(10),
            registry_upload_begin: s(4),
            zone_connect: s(2),
            zone_first_byte: s(5),
            zone_stall: s(10),
            blob_answer: s(25),
            disk: s(20),
            cache_proof: s(5),
            permission: s(60),
        }
    }
}

/// The keys of a group, listed once: for the environment, and for comparisons.
macro_rules! group {
    ($group:ident { $($key:ident),* $(,)? }) => {
        keys!($group { $($key),* });
        shown_fields!($group { $($key),* });
    };
}

group!(Limits {
    connections,
    streams,
    requests,
    request_rate,
    registry_connections,
    registry_permissions,
    header_bytes,
    headers,
    fills,
    abandoned_fills,
    manifest,
    manifest_blobs,
    permissions,
    redirects,
    open_files,
    memory,
});
group!(Timeouts {
    handshake,
    headers,
    idle,
    client_stall,
    request_body,
    queue_wait,
    lame_duck,
    drain,
    registry_connect,
    registry_answer,
    registry_permission,
    registry_first_pull,
    registry_upload,
    registry_stall,
    registry_probe,
    registry_probe_every,
    registry_lost,
    registry_upload_begin,
    zone_connect,
    zone_first_byte,
    zone_stall,
    blob_answer,
    disk,
    cache_proof,
    permission,
});
