//! A stand-in for Red Hat Quay: its registry API as an unmodified Quay answers it, oddities
//! included, over S3 zones, with its database in memory and its replication off.
//!
//! Sources are named by Quay's `file:function`; the rest was recorded from a running Quay (the
//! fixtures of the `transcripts` test).

mod access;
mod answer;
mod blobs;
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

use keys::SigningKey;
pub use state::Database;

/// How blobs reach a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// 302 to a signed URL of the store, as with every S3 driver.
    #[default]
    Redirect,
    /// 200 with the bytes, ranges ignored, as with `LocalStorage`.
    Stream,
    /// 302 to `/_storage_proxy/` on `SERVER_HOSTNAME`: `FEATURE_PROXY_STORAGE`.
    StorageProxy,
}

/// How an instance is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `SERVER_HOSTNAME`; its own address by default.
    pub hostname: Option<String>,
    /// `PREFERRED_URL_SCHEME: https`; otherwise as it is served.
    pub https: bool,
    /// Serves TLS with this.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How blobs reach a client.
    pub delivery: Delivery,
    /// Shared by several instances; one of its own by default.
    pub database: Option<Arc<Database>>,
}

/// Trouble that can be switched on and off while it runs.
#[derive(Debug, Clone, Default)]
pub struct Oddities {
    /// Waited before every answer.
    pub delay: Duration,
    /// Requests are taken and never answered.
    pub silent: bool,
    /// Waited before the last PUT of an upload is answered, as the assembly of a large blob does.
    pub slow_commit: Duration,
    /// Everything but pings answers 500: the database is down.
    pub broken: bool,
    /// Its nginx answers everything with this: nothing is behind it.
    pub nginx: Option<StatusCode>,
    /// Its nginx answers 504 where the path holds this, as it does to what takes too long.
    pub gives_up: Option<&'static str>,
    /// Uploads are never begun: its store hangs, and it looks there first.
    pub begins_hang: bool,
    /// It breaks off in the middle of a body: its nginx answers 413 for a 502 of its own.
    pub breaks_off: bool,
}

/// A running stand-in. Dropping it ends it.
#[derive(Debug)]
pub struct Quay {
    server: Server,
    instance: Arc<Instance>,
}

/// What the handlers see.
#[derive(Debug)]
pub(crate) struct Instance {
    /// `SERVER_HOSTNAME`
    hostname: String,
    https: bool,
    tls: bool,
    delivery: Delivery,
    /// In order of preference.
    zones: Vec<Location>,
    database: Arc<Database>,
    key: SigningKey,
    record: Record,
    /// How often its health was told.
    probes: AtomicUsize,
    oddities: watch::Sender<Oddities>,
    http: reqwest::Client,
    /// Uploads under way.
    spool: TempDir,
}

impl Quay {
    /// An instance over `zones`, the preferred one first.
    ///
    /// # Errors
    /// Where a port, a folder or a key cannot be had.
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
            oddities: watch::Sender::default(),
            http: crate::http_client()?,
            spool: tempfile::tempdir()?,
        });
        let serving = Arc::clone(&instance);
        let service = service_fn(move |request| serve::answer(Arc::clone(&serving), request));
        Ok(Self { server: Server::start(port, options.tls, service)?, instance })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://` or `https://` and its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.instance.tls { "https" } else { "http" }, self.address())
    }

    /// Its `SERVER_HOSTNAME`.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.instance.hostname
    }

    /// The database, for another instance of the same registry.
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.instance.database)
    }

    /// What it was asked.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.instance.record
    }

    /// How often its health was told; that is not in the [`record`](Self::record), as it is asked for at any
    /// time.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.instance.probes.load(Ordering::Relaxed)
    }

    /// Changes its trouble.
    pub fn set(&self, change: impl FnOnce(&mut Oddities)) {
        self.instance.oddities.send_modify(change);
    }

    /// Refuses connections and ends the open ones.
    pub async fn down(&self) {
        self.server.close().await;
        self.server.cut();
    }

    /// Is back.
    pub async fn up(&self) {
        self.server.open().await;
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The part of Quay's `config.yaml` that a gateway reads, every zone a default location.
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

    /// A user, or a robot called `namespace+name`.
    pub fn add_user(&self, name: &str, password: &str) {
        let user = state::User { password: password.to_owned(), uuid: uuid(), failed: None };
        self.instance.database.lock().users.insert(name.to_owned(), user);
    }

    /// A repository; its namespace's user owns it.
    pub fn add_repository(&self, name: &str, public: bool) {
        self.instance.database.lock().repositories.entry(name.to_owned()).or_default().public = public;
    }

    /// Lets a user or robot read, and write, a repository.
    pub fn grant(&self, repository: &str, user: &str, write: bool) {
        let mut state = self.instance.database.lock();
        let found = state.repositories.entry(repository.to_owned()).or_default();
        if write { &mut found.writers } else { &mut found.readers }.insert(user.to_owned());
    }

    /// Deletes a repository, as it looks the moment after.
    pub fn delete_repository(&self, name: &str) {
        self.instance.database.lock().repositories.remove(name);
    }

    /// Notes that a zone holds a blob, as the replication worker does.
    pub fn add_placement(&self, digest: &Digest, zone: &str) {
        if let Some(stored) = self.instance.database.lock().blobs.get_mut(&digest.to_string()) {
            stored.placements.insert(zone.to_owned());
        }
    }

    /// The zones that Quay believes hold a blob.
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

    /// Has Quay's database say another size of a blob.
    pub fn set_size(&self, digest: &Digest, size: u64) {
        if let Some(stored) = self.instance.database.lock().blobs.get_mut(&digest.to_string()) {
            stored.size = size;
        }
    }

    /// Takes a blob out of a repository, as garbage collection does.
    pub fn unlink(&self, repository: &str, digest: &Digest) {
        if let Some(found) = self.instance.database.lock().repositories.get_mut(repository) {
            found.links.remove(&digest.to_string());
        }
    }

    /// A token that this instance would have given, or, with other `exp`, `aud`, …, would not.
    ///
    /// # Errors
    /// Where it cannot be signed.
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
    /// `util/__init__.py:get_app_url`: never from the Host header.
    fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.hostname)
    }

    fn zone(&self, name: &str) -> Option<&Location> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    /// `storage/distributedstorage.py:_location_aware`: the first preferred of the placements,
    /// dead or alive.
    fn zone_of(&self, digest: &str) -> Option<&Location> {
        let state = self.database.lock();
        let placements = &state.blobs.get(digest)?.placements;
        self.zones.iter().find(|zone| placements.contains(&zone.name))
    }
}

/// A repository's full name: without a namespace it lies in `library`.
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

/// JSON with three spaces, as Quay writes what it makes itself.
fn pretty(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    // A Vec takes everything, and a Value has only text keys.
    let _ =
        serde::Serialize::serialize(json, &mut serde_json::Serializer::with_formatter(&mut out, formatter));
    out
}
