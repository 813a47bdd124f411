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
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) hostname: Option<Located<String>>,
    pub(crate) tls: TlsFiles,
    pub(crate) state_dir: Option<Located<PathBuf>>,
    pub(crate) journal: Option<Located<JournalEntry>>,
    pub(crate) registry: Registry,
    pub(crate) home: Option<Located<String>>,
    pub(crate) ca: Option<Located<PathBuf>>,
    pub(crate) zones: ZoneMap,
    pub(crate) cache: Cache,
    pub(crate) admin: Admin,
    pub(crate) trusted_proxies: Option<Located<Vec<String>>>,
    pub(crate) replication: Replication,
    pub(crate) routing: Routing,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: Option<Located<PathBuf>>,
    pub(crate) key: Option<Located<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registry {
    pub(crate) kind: RegistryKind,
    pub(crate) url: Option<Located<String>>,
    pub(crate) instances: Option<Located<Vec<InstanceEntry>>>,
    pub(crate) server_name: Option<Located<String>>,
    pub(crate) redirects_to: Option<Located<Vec<String>>>,
    pub(crate) forward_headers: Option<Located<Vec<String>>>,
    pub(crate) account: Account,
    pub(crate) config: Option<Located<PathBuf>>,
}

/// One Quay of those that share a database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstanceEntry {
    pub(crate) url: Option<Located<String>>,
    pub(crate) zone: Option<Located<String>>,
    pub(crate) server_name: Option<Located<String>>,
}

/// Which registry stands behind the gateway.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryKind {
    /// Red Hat Quay.
    #[default]
    Quay,
    /// docker-registry (distribution) and its kin.
    Distribution,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) username: Option<Located<String>>,
    pub(crate) password_file: Option<Located<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    pub(crate) dir: Option<Located<PathBuf>>,
    pub(crate) size: Option<Located<ByteSize>>,
    pub(crate) reserve: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) hosts: Option<Located<Vec<String>>>,
    pub(crate) token_file: Option<Located<PathBuf>>,
}
