//! Every bound that an operator may set, with its default.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::memory::default_budget;

/// How much at once. Keys of `limits:` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections; beyond them the oldest idle one makes room.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Requests at once on all connections; further ones are answered 503.
    pub requests: usize,
    /// The least speed of a request's body, a second; a client may be `timeouts.client_stall` behind it.
    pub request_rate: ByteSize,
    /// Connections to the registry; a request waits `timeouts.queue_wait` for one, then is answered 503.
    pub registry_connections: usize,
    /// Connections to the registry for its word on who may read, beside those.
    pub registry_permissions: usize,
    /// Bytes of a request's head (HTTP/2: of its header list), to the byte.
    pub header_bytes: ByteSize,
    /// Header fields of an HTTP/1.1 request.
    pub headers: usize,
    /// Blobs being filled into the cache at once; more are streamed past it.
    pub fills: usize,
    /// Of these, fills that go on although every client has left.
    pub abandoned_fills: usize,
    /// A manifest larger than this is forwarded, but its blobs are not read for the copies.
    pub manifest: ByteSize,
    /// A manifest that names more local blobs than this is forwarded, but they are not queued: copies
    /// are left to the sweep. Images have some hundred layers at most.
    pub manifest_blobs: usize,
    /// Remembered permissions (credential, repository, digest).
    pub permissions: u64,
    /// Redirects of the registry followed for one blob.
    pub redirects: usize,
    /// Cached files kept open.
    pub open_files: u64,
    /// Bytes that clients can make the gateway hold, all together. Where it is not set: half of the
    /// cgroup's limit, or 512 MiB where there is none.
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

/// The least that a request's headers may take.
const HEADER_BYTES_MIN: ByteSize = ByteSize::kib(1);

/// With less than this, a handful of clients would be refused.
const MEMORY_MIN: ByteSize = ByteSize::mib(32);

/// More of anything at once than this is a slip of the keyboard.
const COUNT_MAX: usize = 1_000_000;

impl Limits {
    /// Bytes of the memory budget.
    #[must_use]
    pub fn memory_budget(&self) -> u64 {
        self.memory.map_or_else(|| default_budget(Path::new("/")), |memory| memory.as_u64())
    }

    /// What is wrong with them.
    pub(super) fn check(&self) -> Result<(), String> {
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
        for (name, count) in counts {
            if !(1..=COUNT_MAX).contains(&count) {
                return Err(format!("limits.{name}: {count} is not between 1 and {COUNT_MAX}"));
            }
        }
        if self.request_rate.as_u64() == 0 {
            return Err("limits.request_rate: must be more than nothing, such as 1KiB".into());
        }
        if self.header_bytes < HEADER_BYTES_MIN {
            return Err(format!(
                "limits.header_bytes: less than {HEADER_BYTES_MIN} is less than a token takes"
            ));
        }
        if self.abandoned_fills > COUNT_MAX {
            return Err(format!("limits.abandoned_fills: more than {COUNT_MAX}"));
        }
        if let Some(memory) = self.memory.filter(|memory| *memory < MEMORY_MIN) {
            return Err(format!("limits.memory: {memory} is less than {MEMORY_MIN}"));
        }
        Ok(())
    }
}

/// How long. Keys of `timeouts:` in the configuration, such as `handshake: 10s`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// A client's TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// From an idle connection to the end of the next request's headers.
    #[serde(with = "humantime_serde")]
    pub headers: Duration,
    /// A client that neither sends nor takes a byte in mid-request.
    #[serde(with = "humantime_serde")]
    pub client_stall: Duration,
    /// A request's body in all, from its headers to its last byte.
    #[serde(with = "humantime_serde")]
    pub request_body: Duration,
    /// For one of the slots that clients share, such as `limits.registry_connections`.
    #[serde(with = "humantime_serde")]
    pub queue_wait: Duration,
    /// After SIGTERM, for clients that still come: whoever sends them here hears of it some seconds
    /// later. Where it is not set: 5 s under Kubernetes, else nothing.
    #[serde(with = "humantime_serde")]
    pub lame_duck: Option<Duration>,
    /// After that, for requests under way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// TCP and TLS to the registry.
    #[serde(with = "humantime_serde")]
    pub registry_connect: Duration,
    /// The registry's first byte, for everything that has no bound of its own.
    #[serde(with = "humantime_serde")]
    pub registry_answer: Duration,
    /// The registry's word on a blob that the cache or a zone could serve.
    #[serde(with = "humantime_serde")]
    pub registry_permission: Duration,
    /// The registry's word on a blob that neither has: the first pull of a proxy-cache
    /// organisation downloads it before the answer (Quay's upstream timeout is 120 s).
    #[serde(with = "humantime_serde")]
    pub registry_first_pull: Duration,
    /// The answer to a finished upload body: Quay assembles large blobs before it answers
    /// (its own nginx waits 2000 s).
    #[serde(with = "humantime_serde")]
    pub registry_upload: Duration,
    /// Between two pieces of a body from the registry.
    #[serde(with = "humantime_serde")]
    pub registry_stall: Duration,
    /// An instance's answer to a probe, its connection included; two in a row without one, and the
    /// instance is out of use. A request that waits a third of it has its instance probed.
    #[serde(with = "humantime_serde")]
    pub registry_probe: Duration,
    /// From one probe of an instance to the next while nothing speaks against it.
    #[serde(with = "humantime_serde")]
    pub registry_probe_every: Duration,
    /// A part of an upload of which no byte moves and that gets no answer, while its instance answers
    /// nobody or its zone's store is out of use; then it is ended with 503, for the client to begin again.
    #[serde(with = "humantime_serde")]
    pub registry_lost: Duration,
    /// An instance's answer to a POST that begins an upload; then the next instance is asked.
    #[serde(with = "humantime_serde")]
    pub registry_upload_begin: Duration,
    /// TCP and TLS to a zone's store.
    #[serde(with = "humantime_serde")]
    pub zone_connect: Duration,
    /// A zone's first byte; then the next zone is tried.
    #[serde(with = "humantime_serde")]
    pub zone_first_byte: Duration,
    /// Between two pieces of a body from a zone; then the next zone goes on.
    #[serde(with = "humantime_serde")]
    pub zone_stall: Duration,
    /// The first byte of a blob that a zone could serve, from the request on: container runtimes
    /// give up on a host after 30 s.
    #[serde(with = "humantime_serde")]
    pub blob_answer: Duration,
    /// For one piece of work on the cache's disk; then it counts as failed.
    #[serde(with = "humantime_serde")]
    pub disk: Duration,
    /// How long a client waits for a cached file to be read again after a restart of the machine;
    /// then it gets the blob from a zone.
    #[serde(with = "humantime_serde")]
    pub cache_proof: Duration,
    /// How long a yes of the registry is remembered for one credential; Quay itself remembers
    /// 60 s (`data/cache/impl.py`), and more is refused.
    #[serde(with = "humantime_serde")]
    pub permission: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            handshake: s(10),
            headers: s(30),
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

/// Lets single bounds be set by name, as from the environment.
macro_rules! settable {
    ($bounds:ident { $($field:ident),* $(,)? }) => {
        impl $bounds {
            /// Sets the bound called `key`, in any case, from YAML; `None` if there is none.
            pub(super) fn set(&mut self, key: &str, yaml: &str) -> Option<Result<(), String>> {
                // Names every field, so that none can be forgotten here.
                let Self { $($field),* } = self;
                $(if key.eq_ignore_ascii_case(stringify!($field)) {
                    let parsed = super::from_yaml::<Self>(&format!("{}: {yaml}", stringify!($field)));
                    return Some(parsed.map(|parsed| *$field = parsed.$field).map_err(|error| error.message));
                })*
                None
            }
        }
    };
}

pub(super) use settable;

settable!(Limits {
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
    memory
});
settable!(Timeouts {
    handshake,
    headers,
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
    permission
});
