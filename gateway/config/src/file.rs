//! The schema of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::access_log::AccessLogEntry;
use super::auth::AuthEntry;
use super::bounds::{Limits, Timeouts};
use super::env::keys;
use super::journal::JournalEntry;
use super::located::Located;
use super::offline::OfflineEntry;
use super::otlp::TracingEntry;
use super::pins::PinEntry;
use super::proxy::ProxyEntry;
use super::quay::ZoneMap;
use super::replication::ReplicationEntry;
use super::routing::RoutingEntry;
use super::tls::TlsEntry;
use super::words::words;

/// The configuration file. Every key is optional here; `settings` decides which are required.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    pub listen: Option<SocketAddr>,
    pub hostname: Option<Located<String>>,
    pub more_hostnames: Option<Located<Vec<String>>>,
    pub tls: TlsEntry,
    pub state_dir: Option<Located<PathBuf>>,
    pub journal: Option<Located<JournalEntry>>,
    pub registry: RegistryEntry,
    pub auth: AuthEntry,
    pub offline: OfflineEntry,
    pub home: Option<Located<String>>,
    pub ca: Option<Located<PathBuf>>,
    pub proxy: ProxyEntry,
    pub zones: ZoneMap,
    pub cache: CacheEntry,
    pub pins: Option<Vec<Located<PinEntry>>>,
    pub admin: AdminEntry,
    pub access_log: AccessLogEntry,
    pub tracing: TracingEntry,
    pub trusted_proxies: Option<Located<Vec<String>>>,
    pub proxy_protocol: Option<Located<bool>>,
    pub replication: ReplicationEntry,
    pub routing: RoutingEntry,
    pub limits: Limits,
    pub timeouts: Timeouts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistryEntry {
    pub kind: RegistryKind,
    pub url: Option<Located<String>>,
    pub instances: Option<Located<Vec<InstanceEntry>>>,
    pub server_name: Option<Located<String>>,
    pub redirects_to: Option<Located<Vec<String>>>,
    pub forward_headers: Option<Located<Vec<String>>>,
    pub token_keys: Option<Located<TokenKeysEntry>>,
    pub account: AccountEntry,
    pub config: Option<Located<PathBuf>>,
}

/// One of several Quay instances that share a database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstanceEntry {
    pub url: Option<Located<String>>,
    pub zone: Option<Located<String>>,
    pub server_name: Option<Located<String>>,
}

/// The kind of registry behind the gateway.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// Red Hat Quay.
    #[default]
    Quay,
    /// docker-registry (distribution) and registries that are based on it.
    Distribution,
    /// Any registry that speaks the distribution specification. Its stores are not known.
    Oci,
}

words!(RegistryKind, "registry.kind", "quay" => Self::Quay, "distribution" => Self::Distribution, "oci" => Self::Oci);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccountEntry {
    pub username: Option<Located<String>>,
    pub password_file: Option<Located<PathBuf>>,
}

/// The keys of distribution's token service, and what its tokens say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TokenKeysEntry {
    pub file: Option<Located<PathBuf>>,
    pub issuer: String,
    pub service: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheEntry {
    pub dir: Option<Located<PathBuf>>,
    pub size: Option<Located<ByteSize>>,
    pub reserve: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminEntry {
    pub listen: Option<SocketAddr>,
    pub hosts: Option<Located<Vec<String>>>,
    pub token_file: Option<Located<PathBuf>>,
    pub tls: Option<bool>,
}

keys!(ConfigFile {
    listen,
    hostname,
    more_hostnames,
    tls,
    state_dir,
    journal,
    registry,
    auth,
    offline,
    home,
    ca,
    proxy,
    zones,
    cache,
    pins,
    admin,
    access_log,
    tracing,
    trusted_proxies,
    proxy_protocol,
    replication,
    routing,
    limits,
    timeouts,
} tls, registry, auth, offline, proxy, cache, admin, access_log, tracing, replication, routing, limits, timeouts);
keys!(RegistryEntry {
    kind,
    url,
    instances,
    server_name,
    redirects_to,
    forward_headers,
    token_keys,
    account,
    config,
} account);
keys!(AccountEntry { username, password_file });
keys!(CacheEntry { dir, size, reserve });
keys!(AdminEntry { listen, hosts, token_file, tls });
