//! A stand-in for Red Hat Quay, over S3 zones, with its database in memory and its replication off. It
//! answers like the registry API of an unmodified Quay, including its peculiarities.
//!
//! Quay's sources are cited as `file:function`. All other behaviour was recorded from a running Quay (the
//! files of the `transcripts` test).

mod access;
mod answer;
mod blobs;
mod forged;
mod health;
mod keys;
mod manifests;
mod referrers;
mod route;
mod schema1;
mod serve;
mod state;
mod storage_proxy;
mod tags;
mod tokens;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use http::StatusCode;
use hyper::service::service_fn;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::port::Port;
use crate::record::Record;
use crate::server::Server;
use crate::zone::Location;

pub use forged::Forgery;
use keys::SigningKey;
pub use state::Database;

/// How a client gets a blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// With a 302 to a signed URL of the store, as with every S3 driver.
    #[default]
    Redirect,
    /// With a 200 and the bytes. Ranges are ignored, as with `LocalStorage`.
    Stream,
    /// With a 302 to `/_storage_proxy/` on `SERVER_HOSTNAME` (`FEATURE_PROXY_STORAGE`).
    StorageProxy,
}

/// The configuration of an instance.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `SERVER_HOSTNAME`. The default is its own address.
    pub hostname: Option<String>,
    /// Sets `PREFERRED_URL_SCHEME: https`. The default is the scheme that it serves.
    pub https: bool,
    /// If set, the instance serves TLS with this configuration.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How a client gets a blob.
    pub delivery: Delivery,
    /// A database that several instances share. The default is a new one.
    pub database: Option<Arc<Database>>,
}

/// Faults that can be changed while the instance runs.
#[derive(Debug, Clone, Default)]
pub struct InstanceFaults {
    /// The delay before every answer.
    pub delay: Duration,
    /// Requests are accepted and never answered.
    pub silent: bool,
    /// The delay before the answer to the last PUT of an upload, like the assembly of a large blob.
    pub slow_commit: Duration,
    /// Everything except pings is answered with 500, as if the database were down.
    pub broken: bool,
    /// nginx answers everything with this status, as if Quay were down.
    pub nginx: Option<StatusCode>,
    /// A proxy before it answers 404 where its health is asked for.
    pub hides_health: bool,
    /// nginx answers 504 if the path contains this, as if Quay took too long.
    pub gives_up: Option<&'static str>,
    /// Everything whose path contains this is answered with 500, as if Quay could not read it.
    pub unreadable: Option<&'static str>,
    /// New uploads get no answer, as if the preferred store hung.
    pub begins_hang: bool,
    /// The instance breaks off in the middle of a body, and nginx answers 413 instead of its own 502.
    pub breaks_off: bool,
}

/// A running stand-in. Dropping it stops it.
#[derive(Debug)]
pub struct Quay {
    server: Server,
    instance: Arc<Instance>,
}

/// The state that the handlers use.
#[derive(Debug)]
pub(crate) struct Instance {
    /// `SERVER_HOSTNAME`
    hostname: String,
    https: bool,
    tls: bool,
    delivery: Delivery,
    /// The zones in order of preference.
    zones: Vec<Location>,
    database: Arc<Database>,
    key: SigningKey,
    record: Record,
    /// How often its health was requested.
    probes: AtomicUsize,
    /// How often the key set was requested.
    key_fetches: AtomicUsize,
    faults: watch::Sender<InstanceFaults>,
    http: reqwest::Client,
    /// The files of uploads in progress.
    spool: TempDir,
}

impl Quay {
    /// Starts an instance over `zones`. The first one is preferred.
    ///
    /// # Errors
    /// A port, a folder or a key cannot be created.
    pub fn start(zones: Vec<Location>, options: Options) -> Result<Self> {
        let port = Port::free()?;
        let database = options.database.unwrap_or_default();
        let (key, public) = SigningKey::generate()?;
        database.lock().keys.push(public);
        let instance = Arc::new(Instance {
            hostname: options.hostname.unwrap_or_else(|| port.address().to_string()),
            https: options.https || options.tls.is_some(),
            tls: options.tls.is_some(),
            delivery: options.delivery,
            zones,
            database,
            key,
            record: Record::default(),
            probes: AtomicUsize::new(0),
            key_fetches: AtomicUsize::new(0),
            faults: watch::Sender::default(),
            http: crate::http_client()?,
            spool: tempfile::tempdir()?,
        });
        let serving = Arc::clone(&instance);
        let service = service_fn(move |request| serve::answer(Arc::clone(&serving), request));
        Ok(Self { server: Server::start(port, options.tls, service)?, instance })
    }

    /// The address at which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://` or `https://` and the address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.instance.tls { "https" } else { "http" }, self.address())
    }

    /// The `SERVER_HOSTNAME`.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.instance.hostname
    }

    /// The database, for another instance of the same registry.
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.instance.database)
    }

    /// The record of the requests.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.instance.record
    }

    /// How often its health was requested. These requests are not in the [`record`](Self::record), because
    /// probes arrive at any time.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.instance.probes.load(Ordering::Relaxed)
    }

    /// How often the set of its keys was requested. These requests are not in the [`record`](Self::record) either, because
    /// a gateway fetches the set at any time.
    #[must_use]
    pub fn key_fetches(&self) -> usize {
        self.instance.key_fetches.load(Ordering::Relaxed)
    }

    /// Changes the faults.
    pub fn set(&self, change: impl FnOnce(&mut InstanceFaults)) {
        self.instance.faults.send_modify(change);
    }

    /// Refuses new connections and ends open ones.
    pub async fn down(&self) {
        self.server.close().await;
        self.server.cut();
    }

    /// Accepts connections again.
    pub async fn up(&self) {
        self.server.open().await;
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The part of Quay's `config.yaml` that a gateway reads. Every zone is a default location.
    #[must_use]
    pub fn config(&self) -> Value {
        let names: Vec<&str> = self.instance.zones.iter().map(|zone| zone.name.as_str()).collect();
        let zones: serde_json::Map<String, Value> =
            self.instance.zones.iter().map(|zone| (zone.name.clone(), zone.quay_entry())).collect();
        json!({
            "SERVER_HOSTNAME": self.instance.hostname,
            "PREFERRED_URL_SCHEME": if self.instance.https { "https" } else { "http" },
            "FEATURE_STORAGE_REPLICATION": true,
            "FEATURE_PROXY_STORAGE": self.instance.delivery == Delivery::StorageProxy,
            "DISTRIBUTED_STORAGE_CONFIG": zones,
            "DISTRIBUTED_STORAGE_PREFERENCE": names,
            "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS": names,
        })
    }

    /// Adds a user, or a robot named `namespace+name`.
    pub fn add_user(&self, name: &str, password: &str) {
        let user = state::User { password: password.to_owned(), uuid: uuid(), failed: None };
        self.instance.database.lock().users.insert(name.to_owned(), user);
    }

    /// Adds a repository, which the user of its namespace owns.
    pub fn add_repository(&self, name: &str, public: bool) {
        self.instance.database.lock().repositories.entry(name.to_owned()).or_default().public = public;
    }

    /// Permits a user or robot to read, or also to write, a repository.
    pub fn grant(&self, repository: &str, user: &str, write: bool) {
        let mut state = self.instance.database.lock();
        let found = state.repositories.entry(repository.to_owned()).or_default();
        if write { &mut found.writers } else { &mut found.readers }.insert(user.to_owned());
    }

    /// Takes back what [`grant`](Self::grant) permitted.
    pub fn revoke(&self, repository: &str, user: &str) {
        if let Some(found) = self.instance.database.lock().repositories.get_mut(repository) {
            found.readers.remove(user);
            found.writers.remove(user);
        }
    }

    /// Deletes a repository. The state is that of the moment after the deletion in Quay.
    pub fn delete_repository(&self, name: &str) {
        self.instance.database.lock().repositories.remove(name);
    }

    /// Records that a zone has a blob, like the replication worker.
    pub fn add_placement(&self, digest: &Digest, zone: &str) {
        if let Some(stored) = self.instance.database.lock().blobs.get_mut(&digest.to_string()) {
            stored.placements.insert(zone.to_owned());
        }
    }

    /// The zones that have the blob according to Quay's database.
    #[must_use]
    pub fn placements(&self, digest: &Digest) -> Vec<String> {
        let state = self.instance.database.lock();
        state
            .blobs
            .get(&digest.to_string())
            .map(|stored| stored.placements.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Whether a blob belongs to a repository.
    #[must_use]
    pub fn is_linked(&self, repository: &str, digest: &Digest) -> bool {
        self.instance.database.lock().linked(repository, &digest.to_string()).is_some()
    }

    /// Sets another size of a blob in Quay's database.
    pub fn set_size(&self, digest: &Digest, size: u64) {
        if let Some(stored) = self.instance.database.lock().blobs.get_mut(&digest.to_string()) {
            stored.size = size;
        }
    }

    /// Removes a blob from a repository, like garbage collection.
    pub fn unlink(&self, repository: &str, digest: &Digest) {
        if let Some(found) = self.instance.database.lock().repositories.get_mut(repository) {
            found.links.remove(&digest.to_string());
        }
    }

    /// The key set, as the key server gives it.
    #[must_use]
    pub fn key_set(&self) -> String {
        keys::set(&self.instance)
    }

    /// A token of this instance. With other values for `exp`, `aud`, …, the token is one that the instance
    /// would not issue.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn token(&self, user: &str, repository: &str, actions: &[&str], overrides: Value) -> Result<String> {
        let now = tokens::now();
        let mut claims = json!({
            "iss": "quay", "aud": self.instance.hostname, "nbf": now, "iat": now, "exp": now + tokens::LIFE, "sub": user,
            "access": [{"type": "repository", "name": repository, "actions": actions}],
            "context": {},
        });
        for (name, value) in overrides.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        self.instance.key.sign(&claims)
    }
}

impl Instance {
    /// `util/__init__.py:get_app_url`. It never depends on the Host header.
    fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.hostname)
    }

    /// The public key of this instance, as the key server writes it.
    fn public_key(&self) -> String {
        let state = self.database.lock();
        let own = state.keys.iter().find(|key| key.kid == self.key.kid());
        own.map(keys::PublicKey::jwk).unwrap_or_default()
    }

    fn zone(&self, name: &str) -> Option<&Location> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    /// `storage/distributedstorage.py:_location_aware`: the first preferred zone among the placements,
    /// whether it works or not.
    fn zone_of(&self, digest: &str) -> Option<&Location> {
        let state = self.database.lock();
        let placements = &state.blobs.get(digest)?.placements;
        self.zones.iter().find(|zone| placements.contains(&zone.name))
    }
}

/// A repository's full name. A name without a namespace belongs to `library`.
fn with_namespace(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("library/{name}") }
}

/// A random UUID, version 4.
fn uuid() -> String {
    let random = fastrand::u128(..);
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// JSON with an indentation of three spaces, as Quay writes its own documents.
fn pretty(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    // Writing to a `Vec` does not fail, and a `Value` has only string keys.
    let _ =
        serde::Serialize::serialize(json, &mut serde_json::Serializer::with_formatter(&mut out, formatter));
    out
}
