//! The configuration file as it is written.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::bounds::{Limits, Timeouts};
use super::journal::JournalEntry;
use super::located::Located;
use super::quay::ZoneMap;
use super::replication::Replication;
use super::routing::Routing;

/// The configuration file; every key optional here, what is needed is decided in `settings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub listen: Option<SocketAddr>,
    pub hostname: Option<Located<String>>,
    pub tls: TlsFiles,
    pub state_dir: Option<Located<PathBuf>>,
    pub journal: Option<Located<JournalEntry>>,
    pub registry: Registry,
    pub home: Option<Located<String>>,
    pub ca: Option<Located<PathBuf>>,
    pub zones: ZoneMap,
    pub cache: Cache,
    pub admin: Admin,
    pub trusted_proxies: Option<Located<Vec<String>>>,
    pub replication: Replication,
    pub routing: Routing,
    pub limits: Limits,
    pub timeouts: Timeouts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsFiles {
    pub certificate: Option<Located<PathBuf>>,
    pub key: Option<Located<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registry {
    pub kind: RegistryKind,
    pub url: Option<Located<String>>,
    pub instances: Option<Located<Vec<InstanceEntry>>>,
    pub server_name: Option<Located<String>>,
    pub redirects_to: Option<Located<Vec<String>>>,
    pub forward_headers: Option<Located<Vec<String>>>,
    pub account: Account,
    pub config: Option<Located<PathBuf>>,
}

/// One Quay of those that share a database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstanceEntry {
    pub url: Option<Located<String>>,
    pub zone: Option<Located<String>>,
    pub server_name: Option<Located<String>>,
}

/// Which registry stands behind the gateway.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryKind {
    /// Red Hat Quay.
    #[default]
    Quay,
    /// docker-registry (distribution), and registries that behave like it.
    Distribution,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Account {
    pub username: Option<Located<String>>,
    pub password_file: Option<Located<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    pub dir: Option<Located<PathBuf>>,
    pub size: Option<Located<ByteSize>>,
    pub reserve: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    pub listen: Option<SocketAddr>,
    pub hosts: Option<Located<Vec<String>>>,
    pub token_file: Option<Located<PathBuf>>,
}
