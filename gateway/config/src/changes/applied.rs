//! When a change of a key takes effect.

use serde::{Deserialize, Serialize};

/// When a change of a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// A reload applies it.
    Reload,
    /// It needs a restart.
    Restart,
}

impl Applied {
    /// The word for tables and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}

/// The keys whose changes need a restart, each because something that is open depends on it: a socket, a folder or a
/// database. `registry.kind` decides what everything else means.
pub const RESTART: [&str; 25] = [
    "listen",
    "state_dir",
    "journal",
    "registry.kind",
    "cache.dir",
    "cache.size",
    "cache.reserve",
    "admin.listen",
    "replication.placements",
    "replication.database",
    "replication.quay_lock",
    "replication.fetch_max",
    "limits.open_files",
    "auth.freshness",
    "offline.max_age",
    "offline.tokens",
    "proxy.url",
    "proxy.credentials_file",
    "proxy.no_proxy",
    "proxy.from_environment",
    "access_log.format",
    "access_log.to",
    "tracing.otlp.endpoint",
    "tracing.otlp.headers_file",
    "tracing.otlp.sample",
];

/// The keys whose changes a reload applies.
pub(super) const RELOAD: [&str; 79] = [
    "hostname",
    "more_hostnames",
    "tls.certificate",
    "tls.key",
    "tls.more",
    "tls.client_ca",
    "registry.url",
    "registry.instances",
    "registry.server_name",
    "registry.redirects_to",
    "registry.forward_headers",
    "registry.account.username",
    "registry.account.password_file",
    "registry.config",
    "registry.token_keys",
    "auth.verify_tokens",
    "home",
    "ca",
    "zones",
    "pins",
    "admin.hosts",
    "admin.token_file",
    "admin.tls",
    "trusted_proxies",
    "proxy_protocol",
    "replication.accept_orphans",
    "replication.verify",
    "replication.limits",
    "replication.sweep.enabled",
    "replication.sweep.every",
    "replication.sweep.rate",
    "replication.sweep.backlog",
    "routing.zones",
    "routing.probe_interval",
    "routing.probes_per_hour",
    "routing.hedge_percent",
    "routing.ejection_max",
    "routing.stall",
    "routing.slowest",
    "limits.connections",
    "limits.streams",
    "limits.requests",
    "limits.request_rate",
    "limits.registry_connections",
    "limits.registry_permissions",
    "limits.header_bytes",
    "limits.headers",
    "limits.fills",
    "limits.abandoned_fills",
    "limits.manifest",
    "limits.manifest_blobs",
    "limits.permissions",
    "limits.redirects",
    "limits.memory",
    "timeouts.handshake",
    "timeouts.headers",
    "timeouts.idle",
    "timeouts.client_stall",
    "timeouts.request_body",
    "timeouts.queue_wait",
    "timeouts.lame_duck",
    "timeouts.drain",
    "timeouts.registry_connect",
    "timeouts.registry_answer",
    "timeouts.registry_permission",
    "timeouts.registry_first_pull",
    "timeouts.registry_upload",
    "timeouts.registry_stall",
    "timeouts.registry_probe",
    "timeouts.registry_probe_every",
    "timeouts.registry_lost",
    "timeouts.registry_upload_begin",
    "timeouts.zone_connect",
    "timeouts.zone_first_byte",
    "timeouts.zone_stall",
    "timeouts.blob_answer",
    "timeouts.disk",
    "timeouts.cache_proof",
    "timeouts.permission",
];

/// When a change of this key takes effect, or of the key of the configuration above it, such as `zones` for
/// `zones.a.bucket_name`. `None` if there is no such key.
#[must_use]
pub fn applied(key: &str) -> Option<Applied> {
    let mut key = key;
    loop {
        if RESTART.contains(&key) {
            return Some(Applied::Restart);
        }
        if RELOAD.contains(&key) {
            return Some(Applied::Reload);
        }
        key = key.rsplit_once('.')?.0;
    }
}
